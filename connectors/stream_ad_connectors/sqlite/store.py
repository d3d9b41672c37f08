"""The embedded store: scores, alerts, statuses, dead letters and series state in one SQLite file, without a server."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from stream_ad.errors import DataError
from stream_ad.records import (
    Alert,
    AlertState,
    DeadLetter,
    Outputs,
    ScoreBatch,
    ScoreExtent,
    ScoreTrace,
    SeriesStatus,
    SourcePosition,
    SourceRecord,
)
from stream_ad_connectors.sqlite.database import connect, transaction
from stream_ad_connectors.sqlite.reader import SqliteReader, bound_ns

__all__ = ["SqliteStore"]

_STAGE = {AlertState.OPEN: 0, AlertState.UPDATE: 1, AlertState.RESOLVED: 2, AlertState.WITHDRAWN: 3}
_UPSERT_SCORE = """
INSERT INTO score VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (series_id, event_time_ns) DO UPDATE SET revision = excluded.revision, score = excluded.score,
    alert_id = excluded.alert_id, layout_id = excluded.layout_id, model_id = excluded.model_id, detail = excluded.detail
WHERE excluded.revision >= revision
"""
_UPSERT_ALERT = """
INSERT INTO alert VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET series = excluded.series, start_ns = excluded.start_ns, revision = excluded.revision,
    updated_ns = excluded.updated_ns, stage = excluded.stage, body = excluded.body
WHERE (excluded.revision, excluded.updated_ns, excluded.stage) >= (revision, updated_ns, stage)
"""
_SELECT_ALERTS = "SELECT body FROM alert WHERE start_ns >= ? AND start_ns < ?"

_PAGE = 64  # dead letters read at once; each may be as large as a record

_T = TypeVar("_T")


class SqliteStore:
    """Sink, StateStore and all readers (scores, alerts, statuses, dead letters) over one file, made when not there.

    A slot is one row: (series, event_time_ns) and one blob of float32 [5, channel] (value, expected, lower, upper,
    attribution). Writing is one transaction per call, synced to disk. Readers, in this process or another, never wait
    for the writer (WAL) and see whole transactions.
    Traps: the file must be on a local disk (WAL needs shared memory); a second writing process waits its turn for
    busy_timeout_s, then UnavailableError; alerts are selected by their start, not by their overlap with the range.
    """

    def __init__(self, path: Path | str, *, busy_timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._writer = connect(self._path, busy_timeout_s=busy_timeout_s)
        self._reader = SqliteReader(self._path, busy_timeout_s=busy_timeout_s)

    def write(self, outputs: Outputs) -> None:
        """All of it or nothing; a lower revision, or an older state of an alert, leaves what is there."""
        if not outputs:
            return
        with self._lock, transaction(self._writer, self._path):
            ids = _Ids(self._writer)
            for batch in outputs.scores:
                self._write_batch(batch, ids)
            self._writer.executemany(_UPSERT_ALERT, [_alert_row(alert) for alert in outputs.alerts])
            self._writer.executemany(
                "INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [_dead_letter_row(letter) for letter in outputs.dead_letters],
            )
            self._writer.executemany(
                "INSERT INTO status VALUES (?, ?) ON CONFLICT (series) DO UPDATE SET body = excluded.body",
                [(status.series, msgspec.msgpack.encode(status)) for status in outputs.statuses],
            )

    def close(self) -> None:
        """Closes the file; calling it again does nothing."""
        with self._lock:
            self._writer.close()
        self._reader.close()

    def scores(self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True) -> list[ScoreBatch]:
        return self._reader.scores(series, start_ns, stop_ns, detail=detail)

    def score_pages(
        self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True
    ) -> Generator[ScoreBatch, None, None]:
        return self._reader.score_pages(series, start_ns, stop_ns, detail=detail)

    def score_extent(self, series: str, start_ns: int, stop_ns: int) -> ScoreExtent | None:
        return self._reader.score_extent(series, start_ns, stop_ns)

    def score_trace(self, series: str, start_ns: int, stop_ns: int, *, max_points: int) -> ScoreTrace:
        return self._reader.score_trace(series, start_ns, stop_ns, max_points=max_points)

    def score_counts(self) -> dict[str, int]:
        return self._reader.score_counts()

    def alerts(self, series: str | None, start_ns: int, stop_ns: int) -> list[Alert]:
        """Newest state of every alert whose episode began in start <= start_ns < stop."""
        query, values = _SELECT_ALERTS, [bound_ns(start_ns), bound_ns(stop_ns)]
        if series is None:
            rows = self._read(query + " ORDER BY start_ns, id", values)
        else:
            rows = self._read(query + " AND series = ? ORDER BY start_ns, id", [*values, series])
        alerts = [_decode(body, Alert) for (body,) in rows]
        return [alert for alert in alerts if alert.state is not AlertState.WITHDRAWN]

    def alert(self, alert_id: str) -> Alert | None:
        rows = self._read("SELECT body FROM alert WHERE id = ?", [alert_id])
        alert = _decode(rows[0][0], Alert) if rows else None
        return None if alert is None or alert.state is AlertState.WITHDRAWN else alert

    def statuses(self) -> list[SeriesStatus]:
        return [_decode(body, SeriesStatus) for (body,) in self._read("SELECT body FROM status ORDER BY series")]

    def dead_letters(self, limit: int = 1000) -> list[DeadLetter]:
        """The newest `limit` dead letters, oldest first."""
        rows = self._read("SELECT * FROM dead_letter ORDER BY rowid DESC LIMIT ?", [limit])
        return [_dead_letter(row) for row in reversed(rows)]

    def read_dead_letters(self) -> Iterator[DeadLetter]:
        """ports.DeadLetterReader: page by page, so that a writer goes on and memory holds."""
        [(last,)] = self._read("SELECT ifnull(max(rowid), 0) FROM dead_letter")
        query = "SELECT *, rowid FROM dead_letter WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"
        after = 0
        while rows := self._read(query, [after, last, _PAGE]):
            yield from (_dead_letter(row[:-1]) for row in rows)
            after = rows[-1][-1]

    async def stop(self) -> None:
        """ports.StateStore: the file stays open for the other ports until `close`."""

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        query = "SELECT series, body FROM state WHERE topic = ? AND partition = ?"
        return dict(await asyncio.to_thread(self._read, query, [topic, partition]))

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        if states:
            await asyncio.to_thread(self._save, topic, partition, dict(states))

    def _save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        with self._lock, transaction(self._writer, self._path):
            self._writer.executemany(
                "INSERT INTO state VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
                [(topic, partition, series, body) for series, body in states.items()],
            )

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._reader.view() as connection:
            return connection.execute(query, values).fetchall()

    def _write_batch(self, batch: ScoreBatch, ids: _Ids) -> None:
        if not len(batch):
            return
        self._writer.executemany(
            _UPSERT_SCORE,
            zip(
                repeat(ids.of("series", "name", batch.series)),
                batch.event_time_ns.tolist(),
                batch.revision.tolist(),
                batch.score.tolist(),
                batch.alert_id,
                repeat(ids.layout(batch.channels)),
                repeat(ids.of("model", "version", batch.model_version)),
                _details(batch),
                strict=False,
            ),
        )


class _Ids:
    """Row ids that stand for names, within one transaction: an id that was rolled back must not be remembered."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str, str], int] = {}
        self._layouts: dict[tuple[str, ...], int] = {}

    def of(self, table: str, column: str, name: str) -> int:
        """The id of a name, given when it is new."""
        found = self._known.get((table, name))
        if found is None:
            run = self._connection.execute
            row = run(f"SELECT id FROM {table} WHERE {column} = ?", (name,)).fetchone()
            if row is None:
                row = run(f"INSERT INTO {table} ({column}) VALUES (?) RETURNING id", (name,)).fetchone()
            found = self._known[table, name] = int(row[0])
        return found

    def layout(self, channels: tuple[str, ...]) -> int:
        found = self._layouts.get(channels)
        if found is None:
            found = self._layouts[channels] = self.of("layout", "channels", msgspec.json.encode(channels).decode())
        return found


def _details(batch: ScoreBatch) -> Iterator[bytes]:
    """One blob a slot: float32 little-endian [5, channel]."""
    arrays = (batch.value, batch.expected, batch.lower, batch.upper, batch.attribution)
    stacked = np.stack(arrays, axis=1).astype("<f4", copy=False)
    raw, width = stacked.tobytes(), stacked[0].nbytes
    return (raw[at : at + width] for at in range(0, len(raw), width)) if width else repeat(b"", len(batch))


def _alert_row(alert: Alert) -> tuple[Any, ...]:
    return (
        alert.id,
        alert.series,
        alert.start_ns,
        alert.revision,
        alert.updated_ns,
        _STAGE[alert.state],
        msgspec.msgpack.encode(alert),
    )


def _dead_letter_row(letter: DeadLetter) -> tuple[Any, ...]:
    at, record = letter.record.position, letter.record
    return (
        at.topic,
        at.partition,
        at.offset,
        letter.reason,
        letter.detail,
        record.timestamp_ns,
        record.key,
        record.value,
    )


def _dead_letter(row: Sequence[Any]) -> DeadLetter:
    topic, partition, offset, reason, detail, time_ns, key, value = row
    return DeadLetter(SourceRecord(SourcePosition(topic, partition, offset), time_ns, key, value), reason, detail)


def _decode(body: bytes, of: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(body, type=of)
    except msgspec.MsgspecError as error:
        raise DataError(f"store: expected a stored {of.__name__}, found {error}") from error
