"""Sources that this process feeds itself: records and alerts without a broker, with back-pressure."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping, Sequence

from stream_ad.errors import UnavailableError
from stream_ad.ports import AssignmentListener, Checkpoint, Clock
from stream_ad.records import Observation, Outputs, SourcePosition, SourceRecord
from stream_ad.serde.alerts import alert_to_json
from stream_ad.serde.encoder import TimeFormat, encode_observation
from stream_ad_connectors.host.clock import SystemClock

__all__ = ["AlertBus", "BusSource", "NonReplayableSource"]

TOPIC = "bus"
_WAIT_S = 5.0


class AlertBus:
    """ports.Sink that puts alerts into `source`, whose records look like those of the alerts topic.

    Trap: only in memory; alerts that `source` has not delivered are lost with the process.
    """

    def __init__(self, maxsize: int = 10_000) -> None:
        self.source = BusSource(maxsize)

    def write(self, outputs: Outputs) -> None:
        """UnavailableError when it stays full. The reader must recognise an alert that is written twice."""
        for alert in outputs.alerts:
            self.source.publish(alert_to_json(alert), key=alert.series, timeout_s=_WAIT_S)

    def close(self) -> None:
        self.source.close()


class NonReplayableSource:
    """The methods of ports.Source about offsets, for a source whose records cannot be read again."""

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        """Stores nothing."""

    async def owns_partitions(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return None


class BusSource(NonReplayableSource):
    """ports.Source fed by `publish`, from any thread: topic "bus", partition 0, offset counting from 0.

    At most `maxsize` records wait; then `publish` blocks. Traps: polled records cannot be read again, so `committed` is
    None and the listener's offset is ignored; publish from another thread than the one that polls, or a full bus would
    wait for itself.
    """

    def __init__(
        self,
        maxsize: int = 10_000,
        *,
        clock: Clock | None = None,
        time_format: TimeFormat = "ms",
        poll_records: int = 1000,
    ) -> None:
        self._maxsize, self._poll_records = maxsize, poll_records
        self._clock, self._time_format = clock or SystemClock(), time_format
        self._changed = threading.Condition()
        self._records: deque[SourceRecord] = deque()
        self._offset = 0
        self._closed = False
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._loop_thread: int | None = None

    def publish(self, record: bytes | Observation, *, key: str | None = None, timeout_s: float | None = None) -> None:
        """One record: its JSON bytes (key = its series, where the bytes do not name it) or an Observation.

        The record's timestamp is the event time of an Observation, else the clock's. UnavailableError when the bus is
        closed, or still full after timeout_s (None = no limit).
        """
        value, series, timestamp_ns = self._encoded(record, key)
        with self._changed:
            if self._full() and threading.get_ident() == self._loop_thread:
                raise UnavailableError(
                    "the bus is full and the thread that polls it publishes", hint="publish from another thread"
                )
            if not self._changed.wait_for(lambda: self._closed or not self._full(), timeout_s):
                raise UnavailableError(f"the bus is full: {self._maxsize} records wait", retry_after_s=timeout_s)
            if self._closed:
                raise UnavailableError("the bus is closed")
            position = SourcePosition(TOPIC, 0, self._offset)
            self._offset += 1
            self._records.append(SourceRecord(position, timestamp_ns, series, value))
            self._wake()

    def close(self) -> None:
        """Ends the stream: `poll` returns None once all waiting records are read. Waiting publishers get an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._wake()

    async def start(self, listener: AssignmentListener) -> None:
        self._loop_thread = threading.get_ident()
        await listener.assigned(TOPIC, 0)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        await asyncio.sleep(0)  # a bus that is never empty must not starve other tasks
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        deadline = loop.time() + timeout_s
        while True:
            with self._changed:
                if self._records or self._closed:
                    return self._next_records()
                self._waiter = (loop, event)
            left_s = deadline - loop.time()
            if left_s <= 0:
                return []
            try:
                await asyncio.wait_for(event.wait(), left_s)
            except TimeoutError:
                continue  # a record may have arrived in between
            event.clear()

    async def stop(self) -> None:
        """Also closes the bus, since no consumer is left."""
        self._loop_thread = None
        self.close()

    def _full(self) -> bool:
        return len(self._records) >= self._maxsize

    def _next_records(self) -> list[SourceRecord] | None:
        records = [self._records.popleft() for _ in range(min(len(self._records), self._poll_records))]
        self._changed.notify_all()
        return records or None

    def _wake(self) -> None:
        """Wakes the poll once per wait, so that a burst costs one call into the event loop."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter[0].is_closed():
            waiter[0].call_soon_threadsafe(waiter[1].set)

    def _encoded(self, record: bytes | Observation, key: str | None) -> tuple[bytes, bytes | None, int]:
        if isinstance(record, Observation):
            value = encode_observation(
                record.series, record.event_time_ns, record.values, list(record.values.values()), self._time_format
            )
            return value, record.series.encode(), record.event_time_ns
        return record, None if key is None else key.encode(), self._clock.now_ns()
