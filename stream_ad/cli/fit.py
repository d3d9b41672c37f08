"""`fit`: profiles from history files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, say, settings_of
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.ports import Profile

__all__ = ["command"]

_COLUMNS = ("series", "slots", "channels", "version", "seconds")


def command(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Parquet or CSV files, one series each.", metavar="FILE...")],
    series: Annotated[str | None, typer.Option(help="The series' name; the file's name when absent.")] = None,
    step: Annotated[str | None, typer.Option(help="Time between rows; inferred from timestamps when absent.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    as_json: Json = False,
) -> None:
    """Fit the profile of each file's series and promote it: workers score with it from their next start on."""
    from stream_ad.fit import fit_files
    from stream_ad.settings import duration_ns
    from stream_ad.wiring import build_scorer, open_profiles

    if series and len(files) > 1:
        raise ConfigError(f"--series names one series, found {len(files)} files")
    if step:
        try:
            duration_ns(step)
        except ValueError as error:
            raise ConfigError(f"--step: {error}") from None
    settings = settings_of(context)
    scorer, store = build_scorer(settings), open_profiles(settings)
    fitted: list[dict[str, Any]] = []
    begun = time.monotonic()
    for profile in fit_files(files, settings, scorer, store, series=series, step=step, rows=rows):
        fitted.append(_row(profile, time.monotonic() - begun))
        say(f"{len(fitted)}/{len(files)} {profile.series}: {fitted[-1]['seconds']} s")
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
