"""The stream of a drill: a simulated plant with late, repeated, missing and broken records, at a steady rate."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kafka import KafkaProducer
from kafka.errors import KafkaError
from numpy.typing import NDArray
from stream_ad_connectors.kafka.connection import abandon

from stream_ad.demo.plant import Plant

__all__ = ["START_NS", "STEP_NS", "Feed", "name_of", "records"]

START_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
STEP_NS = 1_000_000_000
_LATE, _TWICE, _MISSING, _BROKEN = 0.003, 0.002, 0.004, 0.001
_CHUNK_S = 0.25
_FLUSH_S = 5.0


def records(plants: list[Plant], rows: int, seed: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Row by row the records (key, value) of all series; late records come with a later row."""
    rng = random.Random(seed)
    held: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    series = [
        (name_of(own, number), plant.channels(own), plant.rows(own, 0, rows))
        for number, plant in enumerate(plants)
        for own in plant.series
    ]
    for row in range(rows):
        due = []
        for name, channels, values in series:
            record = _record(name, channels, row, values[row])
            chance = rng.random()
            if chance < _LATE:
                held[row + rng.randint(2, 80)].append(record)
            elif chance < _LATE + _MISSING:
                continue
            else:
                due.append(record)
            if chance > 1 - _TWICE:
                held[row + rng.randint(1, 40)].append(record)
            elif chance > 1 - _TWICE - _BROKEN:
                due.append((name.encode(), b"{not a record"))
        yield due + held.pop(row, [])


def name_of(series: str, number: int) -> str:
    """The name of a series of plant `number`: two plants have the same series."""
    return f"{series.replace('/', '-')}@{number}"


def _record(series: str, channels: tuple[str, ...], row: int, values: NDArray[np.floating[Any]]) -> tuple[bytes, bytes]:
    readings = {c: None if np.isnan(v) else float(v) for c, v in zip(channels, values, strict=True)}
    time_ms = (START_NS + row * STEP_NS) // 1_000_000
    return series.encode(), json.dumps({"series": series, "time": time_ms, "values": readings}).encode()


@dataclass
class Feed:
    """Publishes rows in a background thread until `stop`; while the broker is down it retries the same rows."""

    kafka: str
    topic: str
    rows: Iterator[list[tuple[bytes, bytes]]]
    rows_per_s: float
    sent_rows: int = 0
    sent: int = 0
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _producer: KafkaProducer | None = None
    _error: BaseException | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when the log holds every sent record; the thread's error is raised."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            while not self._ending.is_set():
                due = min(200, int((time.monotonic() - begun) * self.rows_per_s) - self.sent_rows)
                chunk = [record for _ in range(due) for record in next(self.rows)]
                while not self._send(chunk):
                    time.sleep(0.3)
                self.sent_rows += due
                self.sent += len(chunk)
                self._ending.wait(_CHUNK_S)
        except Exception as error:  # noqa: BLE001 (raised by `stop`)
            self._error = error
        finally:
            self._drop()

    def _send(self, chunk: list[tuple[bytes, bytes]]) -> bool:
        """True when the log holds the whole chunk; False when it may hold a part: drills compare with the log."""
        try:
            if self._producer is None:
                options = {"bootstrap_servers": self.kafka, "bootstrap_timeout_ms": 2000, "enable_idempotence": False}
                self._producer = KafkaProducer(**options, acks="all", linger_ms=5, max_block_ms=5000)
            sent = [self._producer.send(self.topic, key=key, value=value) for key, value in chunk]
            self._producer.flush(timeout=_FLUSH_S)
        except (KafkaError, OSError):
            self._drop()
            return False
        return all(future.succeeded() for future in sent)

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            abandon(producer)
