"""`scores`: the history of one series' scores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, say, settings_of, utc
from stream_ad.errors import AccessError, ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from stream_ad.records import ScoreBatch, ScoreTrace
    from stream_ad.wiring import Store

    _Told = Sequence[ScoreBatch] | ScoreTrace

__all__ = ["command"]

PLOT_POINTS = 4000  # some three a pixel


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def command(
    context: typer.Context,
    series: Annotated[str, typer.Argument(help="The series.")],
    start: Annotated[str, typer.Option(help="From when: -1h, -30min, ISO-8601.")] = "-1h",
    stop: Annotated[str | None, typer.Option(help="Up to when (not included); open when absent.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw them too.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to a file, not to stdout.")] = None,
    channels: Annotated[
        bool, typer.Option("--channels/--no-channels", help="Each channel's value, expected, band and attribution.")
    ] = True,
    max_points: Annotated[
        int | None, typer.Option(min=2, help="Thin a long time out, its peaks kept: time and score alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the scores of a series (1 = its threshold). A table shows the score alone, other formats channels too."""
    form = Format.JSON if as_json else form
    if form is Format.PARQUET and out is None and sys.stdout.isatty():
        raise ConfigError("parquet is not for a terminal", hint="add --out FILE")
    settings = settings_of(context)
    from stream_ad.timestamps import END_NS, moment_ns
    from stream_ad.wiring import open_store

    start_ns = moment_ns(start, name="--start")
    stop_ns = END_NS if stop is None else moment_ns(stop, name="--stop")
    store = open_store(settings)
    try:
        if max_points is not None:
            told: _Told = store.scores.score_trace(series, start_ns, stop_ns, max_points=max_points)
        else:
            told = _batches(store, series, start_ns, stop_ns, detail=channels and form is not Format.TABLE)
        if not told:
            raise _nothing(store, series, start_ns, stop_ns, open_end=stop is None)
        if plot is not None:
            _plot(plot, series, start_ns, stop_ns, max_points or PLOT_POINTS, store)
    finally:
        store.sink.close()
    _write(form, told, out, channels)


def _batches(store: Store, series: str, start_ns: int, stop_ns: int, *, detail: bool) -> list[ScoreBatch]:
    from stream_ad.sdk.frames import check_slots

    check_slots(store.scores.score_extent(series, start_ns, stop_ns), series, channels=detail)
    return store.scores.scores(series, start_ns, stop_ns, detail=detail)


def _nothing(store: Store, series: str, start_ns: int, stop_ns: int, *, open_end: bool) -> DataError:
    """Says when there are scores, or which series have some."""
    from stream_ad.timestamps import END_NS

    counts = store.scores.score_counts()
    asked = f"since {utc(start_ns)}" if open_end else f"from {utc(start_ns)} to {utc(stop_ns)}"
    if series not in counts:
        known = ", ".join(sorted(counts)[:10]) + (", ..." if len(counts) > 10 else "")
        hint = f"series with scores: {known}" if counts else "no series has scores yet: `stream-ad status` says why"
        return DataError(f"series {series!r} has no scores", hint=hint)
    every = store.scores.score_extent(series, 0, END_NS)
    if every is None:
        return DataError(f"series {series!r} has no scores {asked}")
    return DataError(
        f"series {series!r} has no scores {asked}",
        hint=f"it has {counts[series]}, from {utc(every.first_ns)} to {utc(every.last_ns)}: give --start",
    )


def _plot(path: Path, series: str, start_ns: int, stop_ns: int, max_points: int, store: Store) -> None:
    from stream_ad.sdk.plots import plot_scores

    trace = store.scores.score_trace(series, start_ns, stop_ns, max_points=max_points)
    if not len(trace):
        raise DataError(f"series {series!r} has slots there, but none with a score to draw")
    first, last = int(trace.event_time_ns[0]), int(trace.event_time_ns[-1])
    # an episode that began before the first slot may reach into it, so its own start is asked for without a bound
    told = store.alerts.alerts(series, 0, last + 1)
    spans = [
        (a.start_ns, last if a.end_ns is None else a.end_ns) for a in told if a.end_ns is None or a.end_ns >= first
    ]
    try:
        plot_scores(path, title=series, times_ns=trace.event_time_ns, score=trace.score, spans=spans)
    except OSError as error:
        raise AccessError(f"{path} cannot be written: {error.strerror or error}") from error
    say(f"wrote {path}")


def _write(form: Format, told: _Told, out: Path | None, channels: bool) -> None:
    if form is Format.JSON and out is None:
        emit_json(_documents(told, channels))
        return
    if form is Format.TABLE and out is None:
        frame = _frame(told, channels=False)
        alerts = frame["alert_id"] if "alert_id" in frame else [""] * len(frame)
        rows = zip(frame.index, frame["score"], frame["severity"], alerts, strict=True)
        emit_table(("time", "score", "severity", "alert"), [[utc(t.value), f"{s:.3f}", w, a] for t, s, w, a in rows])
        return
    try:
        _to_file(form, told, out, channels)
    except OSError as error:
        raise AccessError(f"{out or 'stdout'} cannot be written: {error.strerror or error}") from error
    if out is not None:
        say(f"wrote {out}")


def _frame(told: _Told, *, channels: bool) -> pd.DataFrame:
    from stream_ad.records import ScoreTrace
    from stream_ad.sdk.frames import score_frame, trace_frame

    return trace_frame(told) if isinstance(told, ScoreTrace) else score_frame(told, channels=channels)


def _to_file(form: Format, told: _Told, out: Path | None, channels: bool) -> None:
    """A table goes into a file as CSV does."""
    if form is Format.JSON:
        import msgspec

        assert out is not None
        out.write_bytes(msgspec.json.format(msgspec.json.encode(_documents(told, channels)), indent=2) + b"\n")
        return
    frame = _frame(told, channels=channels)
    if form is Format.PARQUET:
        frame.reset_index().to_parquet(sys.stdout.buffer if out is None else out, compression="zstd", index=False)
    else:
        frame.to_csv(sys.stdout if out is None else out, date_format="%Y-%m-%dT%H:%M:%S.%fZ")


def _documents(told: _Told, channels: bool) -> list[dict[str, Any]]:
    from stream_ad.records import ScoreTrace, severity
    from stream_ad.sdk.frames import DETAILS, score_points
    from stream_ad.serde.alerts import iso_utc

    if isinstance(told, ScoreTrace):
        points = zip(told.event_time_ns.tolist(), told.score.tolist(), strict=True)
        return [
            {"series": told.series, "time": iso_utc(t), "time_ns": t, "score": score, "severity": severity(score)}
            for t, score in points
        ]
    documents = []
    for point in score_points(told):
        document: dict[str, Any] = {
            "series": point.series,
            "time": iso_utc(point.time.value),
            "time_ns": point.time.value,
        }
        for name in ("score", "severity", "revision", "alert_id", "model_version"):
            document[name] = getattr(point, name)
        if channels:
            document["channels"] = {
                channel: {detail: getattr(point, detail)[channel] for detail in DETAILS} | {"imputed": value is None}
                for channel, value in point.value.items()
            }
        documents.append(document)
    return documents
