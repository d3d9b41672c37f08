"""The embedded store: scores, alerts, statuses, dead letters and series state in one SQLite file, without a server."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stream_ad.records import Alert, AlertState, DeadLetter, Outputs, ScoreBatch
from stream_ad_connectors.sqlite.database import connect, transaction
from stream_ad_connectors.sqlite.reader import SqliteReader

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


class SqliteStore:
    """Sink and StateStore over one file, created if missing; `reader` reads it.

    A slot is one row: (series, event_time_ns) and one blob of float32 [5, channel] (value, expected, lower, upper,
    attribution). Each write is one transaction, synced to disk. Readers, in this process or another, never wait for
    the writer (WAL) and see whole transactions.
    Traps: the file must be on a local disk (WAL needs shared memory); a second writing process waits at most
    busy_timeout_s for the first, then UnavailableError.
    """

    def __init__(self, path: Path | str, *, busy_timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._writer = connect(self._path, busy_timeout_s=busy_timeout_s)
        self.reader = SqliteReader(self._path, busy_timeout_s=busy_timeout_s)

    def write(self, outputs: Outputs) -> None:
        """All or nothing. A lower revision of a slot, or an older state of an alert, replaces nothing."""
        if not outputs:
            return
        with self._lock, transaction(self._writer, self._path):
            ids = _Ids(self._writer)
            for batch in outputs.scores:
                self._write_batch(batch, ids)
            self._writer.executemany(_UPSERT_ALERT, [_alert_row(alert) for alert in outputs.alerts])
            self._writer.executemany(
                "INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [_dead_letter_row(dead_letter) for dead_letter in outputs.dead_letters],
            )
            self._writer.executemany(
                "INSERT INTO status VALUES (?, ?) ON CONFLICT (series) DO UPDATE SET body = excluded.body",
                [(status.series, msgspec.msgpack.encode(status)) for status in outputs.statuses],
            )

    def close(self) -> None:
        """Closes the file and the reader. Idempotent."""
        with self._lock:
            self._writer.close()
        self.reader.close()

    async def stop(self) -> None:
        """ports.StateStore: the file stays open until `close`."""

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        query = "SELECT series, body FROM state WHERE topic = ? AND partition = ?"
        return dict(await asyncio.to_thread(self.reader.read, query, [topic, partition]))

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        if states:
            await asyncio.to_thread(self._save, topic, partition, dict(states))

    def _save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        with self._lock, transaction(self._writer, self._path):
            self._writer.executemany(
                "INSERT INTO state VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
                [(topic, partition, series, body) for series, body in states.items()],
            )

    def _write_batch(self, batch: ScoreBatch, ids: _Ids) -> None:
        if not len(batch):
            return
        self._writer.executemany(
            _UPSERT_SCORE,
            zip(
                repeat(ids.id_of("series", "name", batch.series)),
                batch.event_time_ns.tolist(),
                batch.revision.tolist(),
                batch.score.tolist(),
                batch.alert_id,
                repeat(ids.layout(batch.channels)),
                repeat(ids.id_of("model", "version", batch.model_version)),
                _details(batch),
                strict=False,
            ),
        )


class _Ids:
    """Row ids of names, cached for one transaction only: a rollback makes new ids invalid."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str, str], int] = {}
        self._layouts: dict[tuple[str, ...], int] = {}

    def id_of(self, table: str, column: str, name: str) -> int:
        """The id of a name, inserted if it is new."""
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
            found = self._layouts[channels] = self.id_of("layout", "channels", msgspec.json.encode(channels).decode())
        return found


def _details(batch: ScoreBatch) -> Iterator[bytes]:
    """One blob per slot: float32 little-endian [5, channel]."""
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


def _dead_letter_row(dead_letter: DeadLetter) -> tuple[Any, ...]:
    record = dead_letter.record
    at = record.position
    return (
        at.topic,
        at.partition,
        at.offset,
        dead_letter.reason,
        dead_letter.detail,
        record.timestamp_ns,
        record.key,
        record.value,
    )
