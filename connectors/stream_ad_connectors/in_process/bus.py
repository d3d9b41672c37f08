"""The in-process bus: records in and outputs out without a broker, with back-pressure on both sides."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from stream_ad.errors import UnavailableError
from stream_ad.ports import AssignmentListener, Checkpoint, Clock
from stream_ad.records import Observation, Outputs, SourcePosition, SourceRecord
from stream_ad.serde.alerts import alert_to_json
from stream_ad.serde.encoder import TimeFormat, encode_observation
from stream_ad_connectors.host.clock import SystemClock

__all__ = ["AlertBus", "Bus", "BusSink", "BusSource", "BusSubscription", "NonReplayableSource"]


_WAIT_S = 5.0


class AlertBus:
    """ports.Sink that hands alerts to `source`, which gives them as the alerts topic does.

    Trap: it is memory alone; what nobody has taken ends with the process.
    """

    def __init__(self, maxsize: int = 10_000) -> None:
        self.source = BusSource(maxsize)

    def write(self, outputs: Outputs) -> None:
        """UnavailableError when it is full for too long; alerts written again are the reader's to know."""
        for alert in outputs.alerts:
            self.source.publish(alert_to_json(alert), key=alert.series, timeout_s=_WAIT_S)

    def close(self) -> None:
        self.source.close()


class NonReplayableSource:
    """The part of ports.Source that is about going on from somewhere: they never do."""

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        """Nothing to keep: there is no second reading."""

    async def owns_partitions(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return None


TOPIC = "bus"


class BusSource(NonReplayableSource):
    """ports.Source fed by `publish`, from any thread: topic "bus", partition 0, offset counting from 0.

    At most `maxsize` records wait; then `publish` blocks. Traps: what was polled cannot be read again, so `committed`
    is None and an offset told by the listener is passed over; publishing from the event loop that polls must go
    through `publish_async`, a full bus would wait for itself.
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
        """One record: its JSON bytes (key = its series, where the bytes do not say it) or an Observation.

        An Observation's own timestamp is its event time, that of bytes the clock's. UnavailableError when the bus is
        closed, or still full after timeout_s (None = wait as long as it takes).
        """
        value, series, timestamp_ns = self._encoded(record, key)
        with self._changed:
            if self._full() and threading.get_ident() == self._loop_thread:
                raise UnavailableError(
                    "the bus is full and the thread that empties it publishes", hint="use publish_async"
                )
            if not self._changed.wait_for(lambda: self._closed or not self._full(), timeout_s):
                raise UnavailableError(f"the bus is full: {self._maxsize} records wait", retry_after_s=timeout_s)
            if self._closed:
                raise UnavailableError("the bus is closed")
            position = SourcePosition(TOPIC, 0, self._offset)
            self._offset += 1
            self._records.append(SourceRecord(position, timestamp_ns, series, value))
            self._wake()

    async def publish_async(self, record: bytes | Observation, *, key: str | None = None) -> None:
        """`publish` that lets the event loop run while it waits. A cancelled call may still be published."""
        await asyncio.to_thread(self.publish, record, key=key)

    def close(self) -> None:
        """No more records; what waits is still polled, then poll returns None. Waiting publishers are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._wake()

    async def start(self, listener: AssignmentListener) -> None:
        self._loop_thread = threading.get_ident()
        await listener.assigned(TOPIC, 0)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        await asyncio.sleep(0)  # a bus that is never empty must not starve the event loop
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        deadline = loop.time() + timeout_s
        while True:
            with self._changed:
                if self._records or self._closed:
                    return self._take()
                self._waiter = (loop, event)
            left_s = deadline - loop.time()
            if left_s <= 0:
                return []
            try:
                await asyncio.wait_for(event.wait(), left_s)
            except TimeoutError:
                continue  # a record may have come between the two
            event.clear()

    async def stop(self) -> None:
        """Also closes: nobody would take what is published from now on."""
        self._loop_thread = None
        self.close()

    def _full(self) -> bool:
        return len(self._records) >= self._maxsize

    def _take(self) -> list[SourceRecord] | None:
        taken = [self._records.popleft() for _ in range(min(len(self._records), self._poll_records))]
        self._changed.notify_all()
        return taken or None

    def _wake(self) -> None:
        """Once per wait: the flag is taken down, so that a burst costs one call into the event loop."""
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


class BusSubscription:
    """Outputs in the order they were written, as an iterator that ends when the bus is closed.

    Trap: the writer waits while `maxsize` of them are untaken; close the subscription (or leave its `with`) to let go.
    """

    def __init__(self, changed: threading.Condition, maxsize: int) -> None:
        self._changed, self._maxsize = changed, maxsize
        self._waiting: deque[Outputs] = deque()
        self.closed = False

    def get(self, timeout_s: float | None = None) -> Outputs | None:
        """The next outputs; None when none came within timeout_s, or when `closed` and all were taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.closed, timeout_s)
            if not self._waiting:
                return None
            self._changed.notify_all()
            return self._waiting.popleft()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Outputs]:
        while (outputs := self.get()) is not None:
            yield outputs

    def __enter__(self) -> BusSubscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_room(self) -> bool:
        return self.closed or len(self._waiting) < self._maxsize

    def deliver(self, outputs: Outputs) -> None:
        """For the sink, under the lock, when there is room."""
        if not self.closed:
            self._waiting.append(outputs)


class BusSink:
    """ports.Sink that hands outputs to callbacks and subscriptions; without any it lets them go.

    `write` waits until every subscription has room, at most `timeout_s`, then UnavailableError, and none has got
    anything: writing again delivers once. Callbacks run in the writing thread, before the subscriptions; what one
    raises ends the write. Outputs are shared with all subscribers: do not change them.
    """

    def __init__(self, *, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._subscriptions: list[BusSubscription] = []
        self._callbacks: list[Callable[[Outputs], None]] = []

    def subscribe(self, maxsize: int = 1000) -> BusSubscription:
        """An iterator over what is written from now on."""
        with self._changed:
            subscription = BusSubscription(self._changed, maxsize)
            self._subscriptions.append(subscription)
            return subscription

    def on_outputs(self, callback: Callable[[Outputs], None]) -> Callable[[], None]:
        """Calls back with what is written from now on; call what it returns to end that."""
        with self._changed:
            self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def write(self, outputs: Outputs) -> None:
        if not outputs:
            return
        kept = Outputs(  # the caller's lists may grow or be cleared after we return
            list(outputs.scores), list(outputs.alerts), list(outputs.dead_letters), list(outputs.statuses)
        )
        with self._changed:
            if not self._changed.wait_for(self._has_room, self._timeout_s):
                raise UnavailableError(
                    "a subscriber of the bus does not take its outputs", hint="close it or read on", retry_after_s=0.1
                )
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback(kept)
        with self._changed:
            for subscription in self._subscriptions:
                subscription.deliver(kept)
            self._changed.notify_all()

    def close(self) -> None:
        """Subscriptions end after what they still hold."""
        with self._changed:
            for subscription in self._subscriptions:
                subscription.closed = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        self._subscriptions = [one for one in self._subscriptions if not one.closed]
        return all(one.has_room for one in self._subscriptions)


class Bus:
    """Both ends together."""

    def __init__(self, maxsize: int = 10_000, *, clock: Clock | None = None, time_format: TimeFormat = "ms") -> None:
        self.source = BusSource(maxsize, clock=clock, time_format=time_format)
        self.sink = BusSink()

    def publish(self, record: bytes | Observation, *, key: str | None = None, timeout_s: float | None = None) -> None:
        self.source.publish(record, key=key, timeout_s=timeout_s)

    def subscribe(self, maxsize: int = 1000) -> BusSubscription:
        return self.sink.subscribe(maxsize)

    def close(self) -> None:
        """Ends the stream of records; the runtime ends the outputs when it has answered for them all."""
        self.source.close()
