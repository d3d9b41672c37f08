"""The contracts over what runs without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from stream_ad_connectors.sqlite import SqliteStore

from tests.contracts.check_sink import SINK_CHECKS, SinkCheck, SinkPromises, SinkUnderTest, check_sink
from tests.contracts.check_state_store import StateStoreUnderTest, check_state_store


def _sqlite(path: Path) -> SinkUnderTest:
    store = SqliteStore(path)
    return SinkUnderTest(store, store, store, store)


@pytest.mark.parametrize("check", SINK_CHECKS, ids=lambda check: check.__name__)
def test_sqlite_sink(check: SinkCheck, tmp_path: Path) -> None:
    target = _sqlite(tmp_path / "store.db")
    check(target, SinkPromises(prefix=""))
    target.sink.close()


def test_sqlite_sink_shared(tmp_path: Path) -> None:
    """One file for all checks, kept apart by their prefixes, as on a shared server."""
    check_sink(lambda: _sqlite(tmp_path / "store.db"))


async def test_sqlite_state_store(tmp_path: Path) -> None:
    count = iter(range(100))

    def make() -> StateStoreUnderTest:
        path = tmp_path / f"{next(count)}.db"
        return StateStoreUnderTest(lambda: SqliteStore(path), lambda store: store.close())  # type: ignore[attr-defined]

    await check_state_store(make)
