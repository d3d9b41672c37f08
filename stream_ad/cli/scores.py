"""`scores`: the stored scores of one series."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, open_store, say, settings_of, utc, writing
from stream_ad.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from stream_ad.records import ScoreBatch, ScoreTrace
    from stream_ad.wiring import Store

    _Scores = Sequence[ScoreBatch] | ScoreTrace

__all__ = ["command"]

PLOT_POINTS = 4000  # about three per pixel


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def command(
    context: typer.Context,
    series: Annotated[str, typer.Argument(help="The series.")],
    start: Annotated[str, typer.Option(help="First time: -1h, -30min, ISO-8601.")] = "-1h",
    stop: Annotated[str | None, typer.Option(help="End, exclusive; default: no end.")] = None,
    form: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw the scores.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to a file instead of stdout.")] = None,
    channels: Annotated[
        bool,
        typer.Option("--channels/--no-channels", help="With each channel's value, expected, band and attribution."),
    ] = True,
    max_points: Annotated[
        int | None, typer.Option(min=2, help="Downsample to this many points, keeping the peaks: time and score only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the scores of a series (1 = its threshold). Tables omit the channels, other formats include them."""
    form = Format.JSON if as_json else form
    if form is Format.PARQUET and out is None and sys.stdout.isatty():
        raise ConfigError("parquet cannot be printed on a terminal", hint="add --out FILE")
    settings = settings_of(context)
    from stream_ad.timestamps import range_ns

    start_ns, stop_ns = range_ns(start, stop, prefix="--")
    with open_store(settings) as store:
        if max_points is not None:
            scores: _Scores = store.scores.score_trace(series, start_ns, stop_ns, max_points=max_points)
        else:
            scores = _batches(store, series, start_ns, stop_ns, detail=channels and form is not Format.TABLE)
        if not scores:
            raise _no_scores(store, series, start_ns, stop_ns, open_end=stop is None)
        if plot is not None:
            _plot(plot, series, start_ns, stop_ns, max_points or PLOT_POINTS, store)
    _write(form, scores, out, channels)


def _batches(store: Store, series: str, start_ns: int, stop_ns: int, *, detail: bool) -> list[ScoreBatch]:
    from stream_ad.sdk.frames import check_slots

    check_slots(store.scores.score_extent(series, start_ns, stop_ns), series, channels=detail)
    return store.scores.scores(series, start_ns, stop_ns, detail=detail)


def _no_scores(store: Store, series: str, start_ns: int, stop_ns: int, *, open_end: bool) -> DataError:
    """The error: names the time of the existing scores, or the series that have scores."""
    from stream_ad.timestamps import END_NS

    counts = store.scores.score_counts()
    searched = f"since {utc(start_ns)}" if open_end else f"from {utc(start_ns)} to {utc(stop_ns)}"
    if series not in counts:
        known = ", ".join(sorted(counts)[:10]) + (", ..." if len(counts) > 10 else "")
        hint = f"series with scores: {known}" if counts else "no series has scores yet: see `stream-ad status`"
        return DataError(f"series {series!r} has no scores", hint=hint)
    extent = store.scores.score_extent(series, 0, END_NS)
    if extent is None:
        return DataError(f"series {series!r} has no scores {searched}")
    return DataError(
        f"series {series!r} has no scores {searched}",
        hint=f"it has {counts[series]}, from {utc(extent.first_ns)} to {utc(extent.last_ns)}: give --start",
    )


def _plot(path: Path, series: str, start_ns: int, stop_ns: int, max_points: int, store: Store) -> None:
    from stream_ad.sdk.plots import plot_scores

    trace = store.scores.score_trace(series, start_ns, stop_ns, max_points=max_points)
    if not len(trace):
        raise DataError(f"series {series!r}: none of the slots in this range has a score to draw")
    first, last = int(trace.event_time_ns[0]), int(trace.event_time_ns[-1])
    # no lower bound: an alert that began before the first slot may reach into the plot
    alerts = store.alerts.alerts(series, 0, last + 1)
    spans = [
        (a.start_ns, last if a.end_ns is None else a.end_ns) for a in alerts if a.end_ns is None or a.end_ns >= first
    ]
    with writing(path):
        plot_scores(path, title=series, times_ns=trace.event_time_ns, score=trace.score, spans=spans)
    say(f"wrote {path}")


def _write(form: Format, scores: _Scores, out: Path | None, channels: bool) -> None:
    if form is Format.JSON and out is None:
        emit_json(_documents(scores, channels))
        return
    if form is Format.TABLE and out is None:
        frame = _frame(scores, channels=False)
        alerts = frame["alert_id"] if "alert_id" in frame else [""] * len(frame)
        rows = zip(frame.index, frame["score"], frame["severity"], alerts, strict=True)
        emit_table(("time", "score", "severity", "alert"), [[utc(t.value), f"{s:.3f}", w, a] for t, s, w, a in rows])
        return
    with writing(out or "stdout"):
        _to_file(form, scores, out, channels)
    if out is not None:
        say(f"wrote {out}")


def _frame(scores: _Scores, *, channels: bool) -> pd.DataFrame:
    from stream_ad.records import ScoreTrace
    from stream_ad.sdk.frames import score_frame, trace_frame

    return trace_frame(scores) if isinstance(scores, ScoreTrace) else score_frame(scores, channels=channels)


def _to_file(form: Format, scores: _Scores, out: Path | None, channels: bool) -> None:
    """Format.TABLE is written as CSV."""
    if form is Format.JSON:
        import msgspec

        assert out is not None
        out.write_bytes(msgspec.json.format(msgspec.json.encode(_documents(scores, channels)), indent=2) + b"\n")
        return
    frame = _frame(scores, channels=channels)
    if form is Format.PARQUET:
        frame.reset_index().to_parquet(sys.stdout.buffer if out is None else out, compression="zstd", index=False)
    else:
        frame.to_csv(sys.stdout if out is None else out, date_format="%Y-%m-%dT%H:%M:%S.%fZ")


def _documents(scores: _Scores, channels: bool) -> list[dict[str, Any]]:
    from stream_ad.records import ScoreTrace, severity
    from stream_ad.sdk.frames import DETAILS, score_points
    from stream_ad.timestamps import iso_utc

    if isinstance(scores, ScoreTrace):
        points = zip(scores.event_time_ns.tolist(), scores.score.tolist(), strict=True)
        return [
            {"series": scores.series, "time": iso_utc(t), "time_ns": t, "score": score, "severity": severity(score)}
            for t, score in points
        ]
    documents = []
    for point in score_points(scores):
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
