"""Reading the embedded store: scores, alerts, statuses, dead letters."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.records import (
    Alert,
    AlertState,
    DeadLetter,
    ScoreBatch,
    ScoreExtent,
    ScoreTrace,
    SeriesStatus,
    SourcePosition,
    SourceRecord,
)
from stream_ad_connectors._downsampling import bucket_ns, check_max_points
from stream_ad_connectors.sqlite.database import connect, reading

__all__ = ["SqliteReader"]

PAGE_SLOTS = 5_000
_PAGE_DEAD_LETTERS = 64  # each may be as large as a record
_T = TypeVar("_T")
_INT64 = np.iinfo(np.int64)
_RANGE = """
FROM score WHERE series_id = (SELECT id FROM series WHERE name = ?) AND event_time_ns >= ? AND event_time_ns < ?
"""
_SLOTS = f"SELECT event_time_ns, score, revision, alert_id, detail, layout_id, model_id {_RANGE} ORDER BY event_time_ns"
_EXTENT = f"SELECT count(*), min(event_time_ns), max(event_time_ns) {_RANGE}"
_SCORED = " AND score IS NOT NULL"
_LINE = f"SELECT event_time_ns, score {_RANGE} {_SCORED} ORDER BY event_time_ns"
# Next to a single max() or min(), SQLite returns the columns of the row that has it. One query per bucket follows the
# key; one query over all buckets would sort them first, which took three times as long.
_EXTREMES = tuple(f"SELECT event_time_ns, {choose}(score) {_RANGE} {_SCORED}" for choose in ("max", "min"))
_ALERTS = "SELECT body FROM alert WHERE start_ns >= ? AND start_ns < ?"
_DEAD_LETTERS = "SELECT *, rowid FROM dead_letter WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"


class SqliteReader:
    """ScoreReader, AlertReader, StatusReader and DeadLetterReader over a separate connection. Thread-safe."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = connect(path, busy_timeout_s=busy_timeout_s)
        self._connection.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def view(self) -> Iterator[sqlite3.Connection]:
        """One consistent view for all queries inside."""
        with self._lock, reading(self._connection, self._path):
            yield self._connection

    def scores(self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True) -> list[ScoreBatch]:
        """Slots with start <= time < stop; a new batch begins where the channels or the model version change."""
        return self._slots(series, start_ns, stop_ns, detail, limit=-1)

    def score_pages(
        self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True
    ) -> Generator[ScoreBatch, None, None]:
        while page := self._slots(series, start_ns, stop_ns, detail, limit=PAGE_SLOTS):
            yield from page
            start_ns = int(page[-1].event_time_ns[-1]) + 1

    def score_extent(self, series: str, start_ns: int, stop_ns: int) -> ScoreExtent | None:
        with self.view() as connection:
            return _extent(connection, _EXTENT, _range(series, start_ns, stop_ns))

    def score_trace(self, series: str, start_ns: int, stop_ns: int, *, max_points: int) -> ScoreTrace:
        check_max_points(max_points)
        values = _range(series, start_ns, stop_ns)
        with self.view() as connection:
            extent = _extent(connection, _EXTENT + _SCORED, values)
            if extent is None:
                rows = []
            elif extent.slots <= max_points:
                rows = connection.execute(_LINE, values).fetchall()
            else:
                rows = _extremes(connection, series, extent, max_points)
        times = np.array([time_ns for time_ns, _ in rows], dtype=np.int64)
        scores = np.array([score for _, score in rows], dtype=np.float64)
        return ScoreTrace(series, 0 if extent is None else extent.slots, times, scores)

    def score_counts(self) -> dict[str, int]:
        with self.view() as connection:
            return dict(connection.execute("SELECT name, slots FROM series WHERE slots > 0 ORDER BY name").fetchall())

    def alerts(self, series: str | None, start_ns: int, stop_ns: int) -> list[Alert]:
        """Trap: selected by the start of the episode, not by its overlap with the range."""
        query, values = _ALERTS, [_bound_ns(start_ns), _bound_ns(stop_ns)]
        if series is None:
            rows = self.read(query + " ORDER BY start_ns, id", values)
        else:
            rows = self.read(query + " AND series = ? ORDER BY start_ns, id", [*values, series])
        alerts = [_decode(body, Alert) for (body,) in rows]
        return [alert for alert in alerts if alert.state is not AlertState.WITHDRAWN]

    def alert(self, alert_id: str) -> Alert | None:
        rows = self.read("SELECT body FROM alert WHERE id = ?", [alert_id])
        alert = _decode(rows[0][0], Alert) if rows else None
        return None if alert is None or alert.state is AlertState.WITHDRAWN else alert

    def statuses(self) -> list[SeriesStatus]:
        return [_decode(body, SeriesStatus) for (body,) in self.read("SELECT body FROM status ORDER BY series")]

    def read_dead_letters(self) -> Iterator[DeadLetter]:
        """Page by page, so that the writer continues meanwhile and memory stays bounded."""
        [(last,)] = self.read("SELECT ifnull(max(rowid), 0) FROM dead_letter")
        after = 0
        while rows := self.read(_DEAD_LETTERS, [after, last, _PAGE_DEAD_LETTERS]):
            yield from (_dead_letter(row[:-1]) for row in rows)
            after = rows[-1][-1]

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of one query."""
        with self.view() as connection:
            return connection.execute(query, values).fetchall()

    def _slots(self, series: str, start_ns: int, stop_ns: int, detail: bool, *, limit: int) -> list[ScoreBatch]:
        query = (_SLOTS if detail else _SLOTS.replace(" detail,", " x'',")) + " LIMIT ?"
        with self.view() as connection:
            rows = connection.execute(query, (*_range(series, start_ns, stop_ns), limit)).fetchall()
            layouts = _names(connection, "SELECT id, channels FROM layout", {row[5] for row in rows})
            models = _names(connection, "SELECT id, version FROM model", {row[6] for row in rows})
        return [
            _batch(series, _channels(layouts[layout]) if detail else (), models[model], list(group))
            for (layout, model), group in groupby(rows, key=lambda row: (row[5], row[6]))
        ]


def _bound_ns(time_ns: int) -> int:
    """Bounds such as 2**64, clipped to SQLite's integers."""
    return max(int(_INT64.min), min(int(_INT64.max), time_ns))


def _range(series: str, start_ns: int, stop_ns: int) -> tuple[str, int, int]:
    return series, _bound_ns(start_ns), _bound_ns(stop_ns)


def _extent(connection: sqlite3.Connection, query: str, values: tuple[str, int, int]) -> ScoreExtent | None:
    slots, first_ns, last_ns = connection.execute(query, values).fetchone()
    return ScoreExtent(slots, first_ns, last_ns) if slots else None


def _extremes(
    connection: sqlite3.Connection, series: str, extent: ScoreExtent, max_points: int
) -> list[tuple[int, float]]:
    """(time, score) of the highest and the lowest slot of each bucket, in time order, without duplicates."""
    every_ns = bucket_ns(extent.first_ns, extent.last_ns, max_points)
    rows: set[tuple[int, float]] = set()
    for first_ns in range(extent.first_ns, extent.last_ns + 1, every_ns):
        values = _range(series, first_ns, first_ns + every_ns)
        rows.update(connection.execute(query, values).fetchone() for query in _EXTREMES)
    rows.discard((None, None))  # from an empty bucket
    return sorted(rows)


def _names(connection: sqlite3.Connection, query: str, ids: set[int]) -> dict[int, str]:
    return {key: name for key, name in connection.execute(query) if key in ids} if ids else {}


def _channels(layout: bytes | str) -> tuple[str, ...]:
    return msgspec.json.decode(layout, type=tuple[str, ...])


def _batch(series: str, channels: tuple[str, ...], model_version: str, rows: list[Any]) -> ScoreBatch:
    times, scores, revisions, alert_ids, details, _, _ = zip(*rows, strict=True)
    flat: NDArray[np.float32] = np.frombuffer(b"".join(details), dtype="<f4").astype(np.float32)
    if flat.size != len(rows) * 5 * len(channels):
        raise DataError(
            f"store: series {series!r}: expected 5 x {len(channels)} values a slot, found {flat.size} in all"
        )
    value, expected, lower, upper, attribution = flat.reshape(len(rows), 5, len(channels)).transpose(1, 0, 2)
    return ScoreBatch(
        series=series,
        channels=channels,
        event_time_ns=np.array(times, dtype=np.int64),
        score=np.array(scores, dtype=np.float64),
        value=value,
        expected=expected,
        lower=lower,
        upper=upper,
        attribution=attribution,
        revision=np.array(revisions, dtype=np.int32),
        alert_id=alert_ids,
        model_version=model_version,
    )


def _dead_letter(row: Sequence[Any]) -> DeadLetter:
    topic, partition, offset, reason, detail, time_ns, key, value = row
    return DeadLetter(SourceRecord(SourcePosition(topic, partition, offset), time_ns, key, value), reason, detail)


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise DataError(f"store: expected a stored {kind.__name__}, found {error}") from error
