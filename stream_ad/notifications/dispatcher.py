"""The notification dispatcher: reads alerts from their topic and sends each once to every route that wants it.

It consumes in a separate group, with one active member that has all partitions, so that grouping and rates apply to
the whole topic. Each route has its own offset: its first unsent event. The group commits the minimum; all route offsets
are stored in the commit's metadata, so a restart repeats nothing and loses nothing. Replay starts a little before the
committed offset, to know the alerts that were sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.notifications.outbox import Outbox
from stream_ad.notifications.rendering import compose
from stream_ad.ports import Checkpoint, Clock, LagReader, Notifier, Source
from stream_ad.records import Alert, Notification, Partition, SourceRecord

__all__ = ["NotificationDispatcher", "NotifyEvents", "Route"]

log = logging.getLogger(__name__)
LOOK_BACK = 1_000  # records replayed at a start, so that duplicates of earlier events are recognised
LOOK_BACK_MAX = 50_000  # and at most, for an alert that stays open
POLL_S, COMMIT_S, RETRY_S = 0.25, 5.0, 2.0


@dataclass(frozen=True, slots=True)
class Route:
    """The outbox with a route's rules, and its receiver."""

    outbox: Outbox
    notifier: Notifier

    @property
    def name(self) -> str:
        return self.outbox.route.name


class NotifyEvents:
    """Callbacks for metrics; this base class ignores them."""

    def sent(self, route: str, events: int) -> None: ...
    def failed(self, route: str) -> None: ...
    def held_back(self, route: str, reason: str, events: int) -> None: ...
    def waiting(self, events: Mapping[str, int]) -> None: ...


class _RouteOffset(msgspec.Struct, array_like=True):
    """Stored in the commit's metadata. next: offset of the first unsent event. full_s: Outbox.rate_full_ns / 1e9."""

    next: int
    full_s: int


@dataclass(slots=True)
class _Progress:
    """Progress of one partition. begin: first event that each route has not processed; a route that is missing here is
    new and gets the events written from now on. position: offset of the next record; None = nothing was read yet."""

    begin: dict[str, int]
    position: int | None = None


@dataclass(slots=True)
class NotificationDispatcher:
    """Runs until `stop` is called or the source ends. `parse` decodes an alert; DataError = the record is none.

    link_base: see NotifySettings.
    """

    source: Source
    routes: Sequence[Route]
    parse: Callable[[bytes], Alert]
    clock: Clock
    link_base: str | None = None
    events: NotifyEvents = field(default_factory=NotifyEvents)
    _progress: dict[Partition, _Progress] = field(default_factory=dict)
    _sending: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _started_ns: int = 0  # a new route ignores records written before
    _committed_s: float = 0.0
    _committed: dict[Partition, Checkpoint] = field(default_factory=dict)
    _committing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _commit_now: bool = False  # a message was sent since the last commit

    def stop(self) -> None:
        """Ends `run` after one last attempt to send the messages that are due. Call it from the loop's own thread."""
        self._stopping.set()

    async def run(self) -> None:
        self._started_ns = self.clock.now_ns()
        await self._start()
        try:
            while not self._stopping.is_set():
                records = await self.source.poll(POLL_S)
                if records is None:
                    break
                await self._process(records)
            await self._process((), flush=True)
            await self._finish_sending()
            await self._commit(final=True)
        finally:
            await self._finish_sending()
            await self.source.stop()

    async def _start(self) -> None:
        while not self._stopping.is_set():
            try:
                return await self.source.start(self)
            except UnavailableError as error:
                await self._pause(error)

    async def _pause(self, error: UnavailableError) -> None:
        log.warning("%s; notifications are delayed", error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), RETRY_S)

    async def _process(self, records: Sequence[SourceRecord], *, flush: bool = False) -> None:
        for record in records:
            self._read(record)
        if not records:
            await self._find_positions()
        for name in [name for name, task in self._sending.items() if task.done()]:
            self._sending.pop(name).result()
        now_ns = self.clock.now_ns()
        for route in self.routes:
            due_ns = route.outbox.due_ns(now_ns, flush=flush)
            if due_ns is not None and due_ns <= now_ns and route.name not in self._sending:
                self._sending[route.name] = asyncio.create_task(self._send(route))
            for reason, number in route.outbox.suppressed.items():
                self.events.held_back(route.name, reason, number)
            route.outbox.suppressed.clear()
        self.events.waiting({route.name: route.outbox.waiting for route in self.routes})
        await self._commit()

    # ---- events in

    def _read(self, record: SourceRecord) -> None:
        at = record.position
        partition = (at.topic, at.partition)
        progress = self._progress.get(partition)
        if progress is None:
            return
        progress.position = at.offset + 1
        if not record.value:
            return
        try:
            alert = self.parse(record.value)
        except StreamAdError as error:
            log.warning("record %d of %s-%d is skipped: %s", at.offset, *partition, error)
            return
        now_ns = self.clock.now_ns()
        for route in self.routes:
            begin = progress.begin.get(route.name)
            replayed = record.timestamp_ns < self._started_ns if begin is None else at.offset < begin
            route.outbox.add(partition, at.offset, alert, now_ns, replayed=replayed)

    async def _find_positions(self) -> None:
        """A partition without records has a position too: a new route begins there."""
        unknown = [partition for partition, progress in self._progress.items() if progress.position is None]
        if not unknown or not isinstance(self.source, LagReader):
            return
        try:
            lags = await self.source.lags() or {}
        except UnavailableError:
            return
        for partition in unknown:
            if partition in lags and partition in self._progress:
                self._progress[partition].position = lags[partition].position

    # ---- messages out

    async def _send(self, route: Route) -> None:
        """Sends one message. A failing receiver is retried later and blocks no other route."""
        try:
            if not await self.source.owns_partitions():
                return
        except UnavailableError as error:
            await self._pause(error)
            return
        batch = route.outbox.begin()
        message = compose(batch.alerts, link_base=self.link_base, suppressed=batch.suppressed, unlisted=batch.unlisted)
        failure = await self._call(route.notifier, message)
        if failure is None:
            route.outbox.sent(self.clock.now_ns())
            self._commit_now = True
            await self._commit()
            self.events.sent(route.name, len(batch.alerts) + batch.unlisted)
            log.info("route %s: sent %s", route.name, message.title)
        else:
            retry_after_s = (failure.retry_after_s if isinstance(failure, UnavailableError) else None) or 0.0
            route.outbox.failed(self.clock.now_ns(), int(retry_after_s * 1e9))
            self.events.failed(route.name)
            log.warning("%s; the message is sent again later", failure)

    async def _call(self, notifier: Notifier, message: Notification) -> StreamAdError | None:
        try:
            await asyncio.to_thread(notifier.send, message)
        except StreamAdError as error:
            return error
        except Exception as error:  # noqa: BLE001  # of a plugin; its text may contain the secret address
            return UnavailableError(f"{notifier.service} failed with {type(error).__name__}")
        return None

    async def _finish_sending(self) -> None:
        """Waits for the messages in flight."""
        sending, self._sending = self._sending, {}
        await asyncio.gather(*sending.values())

    # ---- offsets

    async def _commit(self, *, final: bool = False) -> None:
        """Commits at once after a message: only a crash between the two repeats the message."""
        async with self._committing:
            now_s = self.clock.monotonic_s()
            if not (self._commit_now or final or now_s - self._committed_s >= COMMIT_S):
                return
            self._committed_s, self._commit_now = now_s, False
            made = {partition: self._checkpoint(partition) for partition in self._progress}
            new = {p: one for p, one in made.items() if one is not None and self._committed.get(p) != one}
            try:
                if new:
                    await self.source.commit(new)
            except UnavailableError as error:
                self._commit_now = True
                log.warning("%s; the route offsets are committed later", error)
                return
            self._committed.update(new)

    def _checkpoint(self, partition: Partition) -> Checkpoint | None:
        """None during the replay of records that some route had processed before the start."""
        progress = self._progress[partition]
        position = progress.position
        if position is None or any(begin > position for begin in progress.begin.values()):
            return None
        outboxes = {route.name: route.outbox for route in self.routes}
        offsets = {
            name: _RouteOffset(outbox.next_offset(partition, position), outbox.rate_full_ns // 1_000_000_000)
            for name, outbox in outboxes.items()
        }
        first = min(one.next for one in offsets.values())
        replay = min(first - LOOK_BACK, *(one.replay_offset(partition, position) for one in outboxes.values()))
        return Checkpoint(first, max(0, replay, first - LOOK_BACK_MAX), msgspec.json.encode(offsets).decode())

    # ---- rebalances: the methods of ports.AssignmentListener

    async def assigned(self, topic: str, partition: int) -> int | None:
        committed = await self._load_committed(topic, partition)
        if committed is None:
            self._progress[topic, partition] = _Progress({})
            return None
        stored = _route_offsets(committed.metadata)
        known = {route.name: stored[route.name] for route in self.routes if route.name in stored}
        for route in self.routes:
            if route.name in known:
                full_ns = known[route.name].full_s * 1_000_000_000
                route.outbox.rate_full_ns = max(route.outbox.rate_full_ns, full_ns)
        self._progress[topic, partition] = _Progress({name: one.next for name, one in known.items()})
        self._committed.pop((topic, partition), None)
        return committed.replay_offset

    async def _load_committed(self, topic: str, partition: int) -> Checkpoint | None:
        while True:
            try:
                return await self.source.committed(topic, partition)
            except UnavailableError as error:
                if self._stopping.is_set():
                    raise
                await self._pause(error)

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        """Waits for the messages in flight, so that the next owner does not send them too."""
        await self._finish_sending()
        if not lost:
            await self._commit(final=True)
        for partition in partitions:
            self._progress.pop(partition, None)
            self._committed.pop(partition, None)
            for route in self.routes:
                route.outbox.forget(partition)


def _route_offsets(metadata: str) -> dict[str, _RouteOffset]:
    try:
        return msgspec.json.decode(metadata, type=dict[str, _RouteOffset])
    except msgspec.DecodeError:  # the metadata of another program
        return {}
