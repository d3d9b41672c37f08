"""A source: one series of two waves with an anomaly near their end; it ends by itself and cannot be replayed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from stream_ad.ports import AssignmentListener, Checkpoint
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.settings import Settings

TOPIC, ROWS, ANOMALY = "waves", 600, range(560, 570)
START_MS, POLLED = 1_767_225_600_000, 100


class WavesSource:
    def __init__(self) -> None:
        self._row = 0

    async def start(self, listener: AssignmentListener) -> None:
        await listener.assigned(TOPIC, 0)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        rows = range(self._row, min(self._row + POLLED, ROWS))
        self._row = rows.stop
        return [_record(row) for row in rows] or None

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        """There is nothing to resume from."""

    async def owns_partitions(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return None

    async def stop(self) -> None:
        """Nothing is open."""


def _record(row: int) -> SourceRecord:
    time_ms = START_MS + 1000 * row
    values = {"a": math.sin(row / 5) + 10 * (row in ANOMALY), "b": math.cos(row / 9)}
    body = json.dumps({"series": "wave", "time": time_ms, "values": values}).encode()
    return SourceRecord(SourcePosition(TOPIC, 0, row), time_ms * 1_000_000, None, body)


def make(settings: Settings) -> WavesSource:
    return WavesSource()
