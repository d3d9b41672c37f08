"""`fit`: fits profiles to history in files or in InfluxDB."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, say, settings_of, step_of
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.ports import Profile

__all__ = ["command"]

_COLUMNS = ("series", "slots", "channels", "version", "seconds")


def command(
    context: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Parquet or CSV files, one series each.", metavar="FILE...")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Name of the series; default: the file's name, or every series of the history.")
    ] = None,
    step: Annotated[str | None, typer.Option(help="Time between rows; inferred from timestamps when absent.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Only this many first rows of a file.")] = None,
    history: Annotated[
        str | None, typer.Option(metavar="MEASUREMENT", help="Fit to raw readings in InfluxDB; fields are channels.")
    ] = None,
    tag: Annotated[str, typer.Option(help="With --history: the tag that names the series.")] = "series",
    bucket: Annotated[str | None, typer.Option(help="With --history: its bucket; default: that of the scores.")] = None,
    start: Annotated[str, typer.Option(help="With --history: first time.")] = "-7d",
    stop: Annotated[str, typer.Option(help="With --history: end, exclusive.")] = "now",
    as_json: Json = False,
) -> None:
    """Fit and promote a profile per series of files or history; workers score with it after their next start."""
    from stream_ad.offline.fit import file_tables, fit_tables, history_tables
    from stream_ad.timestamps import range_ns
    from stream_ad.wiring import build_scorer, open_history, open_profiles

    files = files or []
    if bool(files) == bool(history):
        raise ConfigError(
            "expected files or --history MEASUREMENT", hint="stream-ad fit FILE... | --history MEASUREMENT"
        )
    if series and len(files) > 1:
        raise ConfigError(f"--series names one series, found {len(files)} files")
    step_of(step)
    settings = settings_of(context)
    if history:
        reader = open_history(settings, bucket)
        tables = history_tables(reader, history, tag, *range_ns(start, stop, prefix="--"), series)
    else:
        tables = file_tables(files, series, rows)
    scorer, store = build_scorer(settings), open_profiles(settings)
    fitted: list[dict[str, Any]] = []
    begun = time.monotonic()
    for profile in fit_tables(tables, settings, scorer, store, step):
        fitted.append(_row(profile, time.monotonic() - begun))
        of = f"/{len(files)}" if files else ""
        say(f"{len(fitted)}{of} {profile.series}: {fitted[-1]['seconds']} s")
        begun = time.monotonic()
    if as_json:
        emit_json(fitted)
    else:
        emit_table(_COLUMNS, [[row[name] for name in _COLUMNS] for row in fitted])


def _row(profile: Profile, seconds: float) -> dict[str, Any]:
    return {
        "series": profile.series,
        "slots": profile.slots,
        "channels": len(profile.channels),
        "version": profile.version,
        "scorer": profile.scorer,
        "step_ns": profile.step_ns,
        "seconds": round(seconds, 2),
    }
