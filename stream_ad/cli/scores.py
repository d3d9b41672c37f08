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
    from stream_ad.records import ScoreBatch
    from stream_ad.wiring import Store

__all__ = ["command"]


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
    as_json: Json = False,
) -> None:
    """Print the scores of a series (1 = its threshold). A table shows the score alone, other formats channels too."""
    form = Format.JSON if as_json else form
    if form is Format.PARQUET and out is None and sys.stdout.isatty():
        raise ConfigError("parquet is not for a terminal", mend="add --out FILE")
    settings = settings_of(context)
    from stream_ad.moments import END_NS, moment_ns
    from stream_ad.wiring import open_store

    start_ns = moment_ns(start, name="--start")
    stop_ns = END_NS if stop is None else moment_ns(stop, name="--stop")
    store = open_store(settings)
    try:
        detail = channels and form is not Format.TABLE
        batches = store.scores.scores(series, start_ns, stop_ns, detail=detail)
        if not any(len(batch) for batch in batches):
            raise _nothing(store, series, start_ns, stop_ns, open_end=stop is None)
        if plot is not None:
            _plot(plot, series, batches, store)
    finally:
        store.sink.close()
    _write(form, batches, out, channels)


def _nothing(store: Store, series: str, start_ns: int, stop_ns: int, *, open_end: bool) -> DataError:
    """Says when there are scores, or which series have some."""
    from stream_ad.moments import END_NS

    counts = store.scores.score_counts()
    asked = f"since {utc(start_ns)}" if open_end else f"from {utc(start_ns)} to {utc(stop_ns)}"
    if series not in counts:
        known = ", ".join(sorted(counts)[:10]) + (", ..." if len(counts) > 10 else "")
        mend = f"series with scores: {known}" if counts else "no series has scores yet: `stream-ad status` says why"
        return DataError(f"series {series!r} has no scores", mend=mend)
    every = [batch for batch in store.scores.scores(series, 0, END_NS, detail=False) if len(batch)]
    if not every:
        return DataError(f"series {series!r} has no scores {asked}")
    first, last = int(every[0].event_time_ns[0]), int(every[-1].event_time_ns[-1])
    return DataError(
        f"series {series!r} has no scores {asked}",
        mend=f"it has {counts[series]}, from {utc(first)} to {utc(last)}: give --start",
    )


def _plot(path: Path, series: str, batches: Sequence[ScoreBatch], store: Store) -> None:
    import numpy as np

    from stream_ad.plots import plot_scores

    times = np.concatenate([batch.event_time_ns for batch in batches])
    first, last = int(times[0]), int(times[-1])
    # an episode that began before the first slot may reach into it, so its own start is asked for without a bound
    told = store.alerts.alerts(series, 0, last + 1)
    spans = [
        (a.start_ns, last if a.end_ns is None else a.end_ns) for a in told if a.end_ns is None or a.end_ns >= first
    ]
    try:
        plot_scores(
            path, title=series, times_ns=times, score=np.concatenate([batch.score for batch in batches]), spans=spans
        )
    except OSError as error:
        raise AccessError(f"{path} cannot be written: {error.strerror or error}") from error
    say(f"wrote {path}")


def _write(form: Format, batches: Sequence[ScoreBatch], out: Path | None, channels: bool) -> None:
    from stream_ad.frames import score_frame

    if form is Format.JSON and out is None:
        emit_json(_documents(batches, channels))
        return
    if form is Format.TABLE and out is None:
        frame = score_frame(batches)
        rows = zip(frame.index, frame["score"], frame["severity"], frame["alert_id"], strict=True)
        emit_table(("time", "score", "severity", "alert"), [[utc(t.value), f"{s:.3f}", w, a] for t, s, w, a in rows])
        return
    try:
        _to_file(form, batches, out, channels)
    except OSError as error:
        raise AccessError(f"{out or 'stdout'} cannot be written: {error.strerror or error}") from error
    if out is not None:
        say(f"wrote {out}")


def _to_file(form: Format, batches: Sequence[ScoreBatch], out: Path | None, channels: bool) -> None:
    """A table goes into a file as CSV does."""
    from stream_ad.frames import score_frame

    if form is Format.JSON:
        import msgspec

        assert out is not None
        out.write_bytes(msgspec.json.format(msgspec.json.encode(_documents(batches, channels)), indent=2) + b"\n")
        return
    frame = score_frame(batches, channels=channels)
    if form is Format.PARQUET:
        frame.reset_index().to_parquet(sys.stdout.buffer if out is None else out, compression="zstd", index=False)
    else:
        frame.to_csv(sys.stdout if out is None else out, date_format="%Y-%m-%dT%H:%M:%S.%fZ")


def _documents(batches: Sequence[ScoreBatch], channels: bool) -> list[dict[str, Any]]:
    from stream_ad_connectors.alert_json import iso_utc

    from stream_ad.frames import DETAILS, score_points

    documents = []
    for point in score_points(batches):
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
