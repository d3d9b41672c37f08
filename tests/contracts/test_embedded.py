"""The contracts over what runs without a server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stream_ad_connectors.files.source import FileSource
from stream_ad_connectors.in_process.bus import BusSource
from stream_ad_connectors.profile_store.store import FsProfileStore
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.ports import ProfileStore
from stream_ad.records import Table
from stream_ad.serde.encoder import table_records
from tests.contracts.check_profile_store import PROFILE_STORE_CHECKS, check_profile_store
from tests.contracts.check_sink import SINK_CHECKS, SinkCheck, SinkPromises, SinkUnderTest, check_sink
from tests.contracts.check_source import SourceUnderTest, check_source
from tests.contracts.check_state_store import StateStoreUnderTest, check_state_store


def _sqlite(path: Path) -> SinkUnderTest:
    store = SqliteStore(path)
    return SinkUnderTest(store, store.reader, store.reader, store.reader)


@pytest.mark.parametrize("check", SINK_CHECKS, ids=lambda check: check.__name__)
def test_sqlite_sink(check: SinkCheck, tmp_path: Path) -> None:
    target = _sqlite(tmp_path / "store.db")
    check(target, SinkPromises(prefix=""))
    target.sink.close()


def test_sqlite_sink_shared(tmp_path: Path) -> None:
    """One file for all checks, kept apart by their prefixes, as on a shared server."""
    check_sink(lambda: _sqlite(tmp_path / "store.db"))


@pytest.mark.parametrize("check", PROFILE_STORE_CHECKS, ids=lambda check: check.__name__)
def test_profiles_in_a_directory(check: Callable[[Callable[[], ProfileStore]], None], tmp_path: Path) -> None:
    check(lambda: FsProfileStore(str(tmp_path / "models [of] ours")))


def test_profiles_in_memory() -> None:
    def make() -> Callable[[], ProfileStore]:
        url = f"memory://{uuid.uuid4().hex}/models"
        return lambda: FsProfileStore(url)

    check_profile_store(make)


async def test_file_source() -> None:
    tables = [
        Table("a", ("x", "y"), None, np.array([[1, 2], [3, np.nan], [5, 6]], dtype=np.float32), None),
        Table("b", ("x",), np.array([5, 5, 4, 9], dtype=np.int64) * 10**6, np.zeros((4, 1), dtype=np.float32), None),
        Table("none", ("x",), None, np.zeros((0, 1), dtype=np.float32), None),
    ]

    def make(poll_rows: int) -> SourceUnderTest:
        def opened() -> FileSource:
            return FileSource(tables, start_ns=0, step_ns=10**9, poll_rows=poll_rows)

        records = {
            ("file", i): [(table.series.encode(), value) for _, value in table_records(table, 0, 10**9)]
            for i, table in enumerate(tables)
        }
        return SourceUnderTest(opened, records)

    for poll_rows in (1, 2, 500):
        await check_source(lambda rows=poll_rows: make(rows))  # type: ignore[misc]


@pytest.mark.parametrize("closed", [True, False])
async def test_bus_source(closed: bool) -> None:
    def make() -> SourceUnderTest:
        source = BusSource(poll_records=2)
        records = [f'{{"time": {i}}}'.encode() for i in range(5)]
        for record in records:
            source.publish(record, key="s")
        if closed:
            source.close()
        expected = {("bus", 0): [(b"s", record) for record in records]}
        return SourceUnderTest(lambda: source, expected, live=not closed, seeks=False, commits=False)

    await check_source(make)


async def test_sqlite_state_store(tmp_path: Path) -> None:
    count = iter(range(100))

    def make() -> StateStoreUnderTest:
        path = tmp_path / f"{next(count)}.db"
        return StateStoreUnderTest(lambda: SqliteStore(path), lambda store: store.close())  # type: ignore[attr-defined]

    await check_state_store(make)
