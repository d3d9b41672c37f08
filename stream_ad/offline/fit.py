"""Fits profiles to files or stored history, for `stream-ad fit` and `Detector.fit`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from stream_ad.detection.profiles import fit_profile, history_on_grid
from stream_ad.durations import duration_ns
from stream_ad.errors import DataError
from stream_ad.ports import HistoryReader, Profile, ProfileStore, Scorer
from stream_ad.records import Table
from stream_ad.settings import Settings
from stream_ad.wiring import read_table

__all__ = ["file_tables", "fit_table", "fit_tables", "history_tables"]


def fit_table(table: Table, settings: Settings, scorer: Scorer, step: str | None = None) -> Profile:
    """Fits the profile of one table. step: the step of data without times; overrides an inferred one."""
    declared = step or next((s.step for s in settings.subscription if s.step), None)
    step_ns = None if declared is None or (table.times_ns is not None and step is None) else duration_ns(declared)
    history, step_ns = history_on_grid(table.times_ns, table.values, step_ns, scorer.lookback_steps)
    return fit_profile(
        scorer,
        table.series,
        table.channels,
        history,
        step_ns=step_ns,
        origin="fit",
        capacity=max(len(history), settings.detector.memory_steps),
        history_end_ns=None if table.times_ns is None else int(table.times_ns.max()),
    )


def file_tables(paths: Iterable[Path], series: str | None = None, rows: int | None = None) -> Iterator[Table]:
    """One table per file, read on demand; rows: only this many first rows."""
    for path in paths:
        table = read_table(path, series=series)
        if rows is not None:
            times = None if table.times_ns is None else table.times_ns[:rows]
            table = Table(table.series, table.channels, times, table.values[:rows], None)
        if not len(table):
            raise DataError(f"{path}: expected rows, found none")
        yield table


def history_tables(
    reader: HistoryReader, measurement: str, tag: str, start_ns: int, stop_ns: int, series: str | None = None
) -> Iterator[Table]:
    """Raw readings from InfluxDB: one table per value of `tag`, or only that of `series`; fields are channels."""
    names = [series] if series else reader.series(measurement, tag)
    if not names:
        raise DataError(f"measurement {measurement!r}: expected series in the tag {tag!r}, found none")
    for name in names:
        yield reader.read(name, start_ns, stop_ns, measurement=measurement, series_tag=tag)


def fit_tables(
    tables: Iterable[Table], settings: Settings, scorer: Scorer, store: ProfileStore, step: str | None = None
) -> Iterator[Profile]:
    """Fits, saves and promotes one profile per table; yields each when it is saved."""
    for table in tables:
        profile = fit_table(table, settings, scorer, step)
        store.save(profile, promote=True)
        yield profile
