"""Opens the store, profiles, history and files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad.errors import ConfigError
from stream_ad.ports import (
    AlertReader,
    HistoryReader,
    Profile,
    ProfileStore,
    ScoreReader,
    Sink,
    Source,
    StatusReader,
)
from stream_ad.records import Table
from stream_ad.settings import Settings, TimeUnit

if TYPE_CHECKING:
    from stream_ad_connectors.in_process.memory import CollectSink

__all__ = [
    "Store",
    "check_store",
    "collect_sink",
    "memory_profiles",
    "open_file_source",
    "open_history",
    "open_profiles",
    "open_store",
    "read_table",
    "table_series",
]


@dataclass(frozen=True, slots=True)
class Store:
    """The store of scores, alerts and statuses. Closing `sink` closes the readers too."""

    sink: Sink
    scores: ScoreReader
    alerts: AlertReader
    statuses: StatusReader


def open_store(settings: Settings) -> Store:
    """InfluxDB when `influxdb.url` is set, else the embedded store."""
    if settings.influxdb.url is not None:
        from stream_ad_connectors.influxdb.store import InfluxStore

        influx = InfluxStore(settings)
        return Store(influx, influx.reader, influx.reader, influx.reader)
    from stream_ad_connectors.sqlite.store import SqliteStore

    sqlite = SqliteStore(settings.store.path)
    return Store(sqlite, sqlite.reader, sqlite.reader, sqlite.reader)


def open_profiles(settings: Settings) -> ProfileStore:
    from stream_ad_connectors.profile_store.store import FsProfileStore

    return FsProfileStore(settings.models.url)


def memory_profiles(promoted: Profile | None = None) -> ProfileStore:
    """Profiles in memory; `promoted` is the promoted profile of its series."""
    from stream_ad_connectors.in_process.memory import MemoryProfileStore

    store = MemoryProfileStore()
    if promoted is not None:
        store.save(promoted, promote=True)
    return store


def collect_sink() -> CollectSink:
    """A sink that keeps everything in memory."""
    from stream_ad_connectors.in_process.memory import CollectSink

    return CollectSink()


def open_history(settings: Settings, bucket: str | None) -> HistoryReader:
    """Reads observations that InfluxDB already contains. `bucket`: default is that of the scores."""
    from stream_ad_connectors.influxdb.history import InfluxHistoryReader

    if settings.influxdb.url is None:
        raise ConfigError(
            "history is read from InfluxDB, and influxdb.url is not set", hint="set it, or fit from files"
        )
    return InfluxHistoryReader(settings, bucket=bucket)


def check_store(settings: Settings) -> str | None:
    """Connects to InfluxDB and returns one line about it; None for the embedded store. Writes nothing."""
    if settings.influxdb.url is None:
        return None
    from stream_ad_connectors.influxdb.store import InfluxStore

    with closing(InfluxStore(settings)) as store:
        return store.check()


def read_table(path: Path | str, *, series: str | None = None, time_unit: TimeUnit = "ms") -> Table:
    """The rows of a Parquet or CSV file (stream_ad_connectors.files.tables.read_table)."""
    from stream_ad_connectors.files import tables

    return tables.read_table(path, series=series, time_unit=time_unit)


def table_series(path: Path) -> str:
    """The series name of a file."""
    from stream_ad_connectors.files.tables import series_of

    return series_of(path)


def open_file_source(tables: Sequence[Table], **options: Any) -> Source:
    """Tables as a finite source (stream_ad_connectors.files.source.FileSource)."""
    from stream_ad_connectors.files.source import FileSource

    return FileSource(tables, **options)
