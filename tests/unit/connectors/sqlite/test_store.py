"""What the embedded store promises beyond the contracts: other processes, other files, full disks."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stream_ad_connectors.sqlite.database import SCHEMA_VERSION
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.errors import AccessError, ConfigError, UnavailableError
from stream_ad.records import AlertState, DeadLetter, Outputs, SourcePosition, SourceRecord
from tests.support.sink_samples import FAR_NS, SinkPromises, alert, batch, slots, status

PROMISES = SinkPromises(prefix="")


def times(count: int, first: int = 0) -> list[int]:
    return [PROMISES.time_ns(i) for i in range(first, first + count)]


def _write_forever(path: str, begun: object) -> None:
    store = SqliteStore(path)
    for i in range(10**9):
        store.write(Outputs(scores=[batch("s", times(2, 2 * i)), batch("t", times(2, 2 * i))]))
        if i == 3:
            begun.set()  # type: ignore[attr-defined]


def test_a_reader_follows_a_writing_process_and_survives_its_kill(tmp_path: Path) -> None:
    """Both series are written together and two slots at a time: a reader never sees half of that."""
    path = tmp_path / "store.db"
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    worker = context.Process(target=_write_forever, args=(str(path), begun), daemon=True)
    worker.start()
    assert begun.wait(30)
    store = SqliteStore(path)
    seen = []
    for _ in range(50):
        counts = store.reader.score_counts()
        assert counts["s"] == counts["t"]
        assert counts["s"] % 2 == 0
        assert len(slots(store.reader.scores("s", 0, FAR_NS))) >= counts["s"]
        seen.append(counts["s"])
    worker.kill()
    worker.join()
    assert seen == sorted(seen)
    counts = store.reader.score_counts()
    assert counts["s"] == counts["t"] == len(slots(store.reader.scores("s", 0, FAR_NS)))
    store.write(Outputs(scores=[batch("s", times(1, -1))]))
    assert store.reader.score_counts()["s"] == counts["s"] + 1
    store.close()


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "store.db"
    written = batch("s", times(3), missing=True)
    dead_letter = DeadLetter(SourceRecord(SourcePosition("t", 1, 2), 3, None, b"\xff"), "not_json", "why")
    store = SqliteStore(path)
    opened = alert(PROMISES, "1", "s", AlertState.OPEN)
    store.write(Outputs([written], [opened], [dead_letter, dead_letter], [status("s", 20)]))
    store.close()
    store.close()
    again = SqliteStore(path)
    assert slots(again.reader.scores("s", 0, FAR_NS)) == slots([written])
    assert again.reader.alerts(None, 0, FAR_NS) == [opened]
    assert list(again.reader.read_dead_letters()) == [dead_letter]
    assert again.reader.statuses() == [status("s", 20)]
    assert again.reader.score_counts() == {"s": 3}
    again.close()


def test_open_bounds_beyond_int64(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    store.write(Outputs(scores=[batch("s", times(2))]))
    assert len(store.reader.scores("s", -(2**70), 2**70)[0]) == 2
    store.close()


def test_an_infinite_peak_and_no_channels(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    odd = replace(alert(PROMISES, "1", "s", AlertState.OPEN), peak_score=float("inf"), channels=())
    bare = batch("s", times(2), channels=())
    store.write(Outputs(scores=[bare], alerts=[odd]))
    assert store.reader.alerts("s", 0, FAR_NS) == [odd]
    assert slots(store.reader.scores("s", 0, FAR_NS)) == slots([bare])
    store.close()


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(ConfigError, match="expected a SQLite database"):
        SqliteStore(path)
    with pytest.raises(ConfigError, match="directory"):
        SqliteStore(tmp_path)
    with pytest.raises(AccessError):
        SqliteStore(path / "store.db")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(ConfigError, match="newer release"):
        SqliteStore(path)


def test_a_held_lock_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path, busy_timeout_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="another process") as caught:
        store.write(Outputs(scores=[batch("s", times(2))]))
    assert caught.value.retry_after_s
    assert store.reader.scores("s", 0, FAR_NS) == []
    other.execute("ROLLBACK")
    store.write(Outputs(scores=[batch("s", times(2))]))
    assert store.reader.score_counts() == {"s": 2}
    other.close()
    store.close()


def test_a_full_disk_is_unavailable_and_writes_nothing(tmp_path: Path) -> None:
    """The whole call is rolled back, its new ids too; with free space the same call succeeds."""
    store = SqliteStore(tmp_path / "store.db")
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 3}")
    outputs = Outputs(scores=[batch("a", times(2)), batch("b", times(5000))])
    with pytest.raises(UnavailableError, match="full"):
        store.write(outputs)
    assert store.reader.score_counts() == {}
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.write(outputs)
    assert store.reader.score_counts() == {"a": 2, "b": 5000}
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_rights_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AccessError):
        SqliteStore(tmp_path / "store.db")


def test_two_threads_read_while_one_writes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    failures: list[Exception] = []

    def read() -> None:
        try:
            for _ in range(30):
                store.reader.scores("s", 0, FAR_NS)
                store.reader.score_counts()
        except (sqlite3.Error, ValueError) as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for i in range(30):
        store.write(Outputs(scores=[batch("s", times(10, 10 * i))]))
    for reader in readers:
        reader.join()
    assert failures == []
    assert store.reader.score_counts() == {"s": 300}
    store.close()


def test_a_row_takes_little_more_than_its_floats(tmp_path: Path) -> None:
    """2,000 slots of 38 channels: 760 bytes of floats each, under 1,000 on disk."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    store.write(Outputs(scores=[batch("s", times(2000), tuple(f"c{i}" for i in range(38)))]))
    store.close()
    assert path.stat().st_size < 2000 * 1000
    assert np.dtype(np.float32).itemsize * 5 * 38 == 760
