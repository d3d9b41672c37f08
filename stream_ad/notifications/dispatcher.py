"""The notifier: alerts from their topic to the routes that want them, each told once.

It is a member of a group of its own; one member has all partitions, so that groups and rates hold for the whole topic.
A route's place in the log is where its first untold event is. All places travel beside the committed offset, which is
the first of them: a restart reads from there what is still to be told, and a little before it what was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.notifications.outbox import Outbox, Partition
from stream_ad.notifications.rendering import compose
from stream_ad.ports import Checkpoint, Clock, LagReader, Notifier, Source
from stream_ad.records import Alert, Notification, SourceRecord

__all__ = ["NotificationDispatcher", "NotifyEvents", "Route"]

log = logging.getLogger(__name__)
LOOK_BACK = 1_000  # records read again at a start, so that an event written twice is known
LOOK_BACK_MAX = 50_000  # and for the sake of an alert that stays open
POLL_S, COMMIT_S, RETRY_S = 0.25, 5.0, 2.0


@dataclass(frozen=True, slots=True)
class Route:
    """A route's rules and its receiver."""

    outbox: Outbox
    notifier: Notifier

    @property
    def name(self) -> str:
        return self.outbox.route.name


class NotifyEvents:
    """What happens, for who counts it; does nothing by itself."""

    def sent(self, route: str, events: int) -> None: ...
    def failed(self, route: str) -> None: ...
    def held_back(self, route: str, reason: str, events: int) -> None: ...
    def waiting(self, events: Mapping[str, int]) -> None: ...


class _Place(msgspec.Struct, array_like=True):
    """next: the first record not told. full_s: Outbox.full_ns, in seconds."""

    next: int
    full_s: int


@dataclass(slots=True)
class _Log:
    """A partition. begin: where each route goes on; None = it is new, and told of what is written from now on."""

    begin: dict[str, int]
    position: int | None = None


@dataclass(slots=True)
class NotificationDispatcher:
    """Runs until `stop` is called or the source ends. `parse` reads an alert; DataError = it is none.

    link_base: as NotifySettings has it. since_ns: what was written before is old news to a route that is new.
    """

    source: Source
    routes: Sequence[Route]
    parse: Callable[[bytes], Alert]
    clock: Clock
    link_base: str | None = None
    events: NotifyEvents = field(default_factory=NotifyEvents)
    _logs: dict[Partition, _Log] = field(default_factory=dict)
    _sending: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _since_ns: int = 0
    _committed_s: float = 0.0
    _committed: dict[Partition, Checkpoint] = field(default_factory=dict)
    _committing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _told: bool = False  # something was sent since the last commit

    def stop(self) -> None:
        """Ends `run` after one more try to send what is due. Call it from the loop's own thread."""
        self._stopping.set()

    async def run(self) -> None:
        self._since_ns = self.clock.now_ns()
        await self._start()
        try:
            while not self._stopping.is_set():
                records = await self.source.poll(POLL_S)
                if records is None:
                    break
                await self._turn(records)
            await self._turn((), hurry=True)
            await self._sent()
            await self._commit(final=True)
        finally:
            await self._sent()
            await self.source.stop()

    async def _start(self) -> None:
        while not self._stopping.is_set():
            try:
                return await self.source.start(self)
            except UnavailableError as error:
                log.warning("%s; alerts are told later", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), RETRY_S)

    async def _turn(self, records: Sequence[SourceRecord], *, hurry: bool = False) -> None:
        for record in records:
            self._take(record)
        if not records:
            await self._find_positions()
        for name in [name for name, task in self._sending.items() if task.done()]:
            self._sending.pop(name).result()
        now_ns = self.clock.now_ns()
        for route in self.routes:
            due_ns = route.outbox.due_ns(now_ns, hurry=hurry)
            if due_ns is not None and due_ns <= now_ns and route.name not in self._sending:
                self._sending[route.name] = asyncio.create_task(self._send(route))
            for reason, number in route.outbox.held_back.items():
                self.events.held_back(route.name, reason, number)
            route.outbox.held_back.clear()
        self.events.waiting({route.name: route.outbox.waiting for route in self.routes})
        await self._commit()

    # ---- events in

    def _take(self, record: SourceRecord) -> None:
        at = record.position
        partition = (at.topic, at.partition)
        place = self._logs.get(partition)
        if place is None:
            return
        place.position = at.offset + 1
        if not record.value:
            return
        try:
            alert = self.parse(record.value)
        except StreamAdError as error:
            log.warning("record %d of %s-%d is passed over: %s", at.offset, *partition, error)
            return
        now_ns = self.clock.now_ns()
        for route in self.routes:
            begin = place.begin.get(route.name)
            old = record.timestamp_ns < self._since_ns if begin is None else at.offset < begin
            route.outbox.take(partition, at.offset, alert, now_ns, quiet=old)

    async def _find_positions(self) -> None:
        """Of partitions in which nothing is: a new route begins there."""
        unknown = [partition for partition, place in self._logs.items() if place.position is None]
        if not unknown or not isinstance(self.source, LagReader):
            return
        try:
            lags = await self.source.lags() or {}
        except UnavailableError:
            return
        for partition in unknown:
            if partition in lags and partition in self._logs:
                self._logs[partition].position = lags[partition].position

    # ---- messages out

    async def _send(self, route: Route) -> None:
        """A receiver that misbehaves is tried again, and stops nothing."""
        try:
            if not await self.source.owns_partitions():
                return
        except UnavailableError as error:
            log.warning("%s; route %s waits", error, route.name)
            await asyncio.sleep(RETRY_S)
            return
        batch = route.outbox.begin()
        message = compose(batch.alerts, link_base=self.link_base, held=batch.held, unlisted=batch.unlisted)
        refusal = await self._handed_over(route.notifier, message)
        if refusal is None:
            route.outbox.sent(self.clock.now_ns())
            self._told = True
            await self._commit()
            self.events.sent(route.name, len(batch.alerts) + batch.unlisted)
            log.info("route %s told: %s", route.name, message.title)
        else:
            retry_after_s = (refusal.retry_after_s if isinstance(refusal, UnavailableError) else None) or 0.0
            route.outbox.failed(self.clock.now_ns(), int(retry_after_s * 1e9))
            self.events.failed(route.name)
            log.warning("%s; it is told again later", refusal)

    async def _handed_over(self, notifier: Notifier, message: Notification) -> StreamAdError | None:
        try:
            await asyncio.to_thread(notifier.send, message)
        except StreamAdError as error:
            return error
        except Exception as error:  # noqa: BLE001  # a plugin's fault; its text may hold the address
            return UnavailableError(f"{notifier.service} failed with {type(error).__name__}")
        return None

    async def _sent(self) -> None:
        """What is on its way has come to its end."""
        sending, self._sending = self._sending, {}
        await asyncio.gather(*sending.values())

    # ---- places in the log

    async def _commit(self, *, final: bool = False) -> None:
        """At once after a message, so that a crash repeats it only if it comes between the two."""
        async with self._committing:
            now_s = self.clock.monotonic_s()
            if not (self._told or final or now_s - self._committed_s >= COMMIT_S):
                return
            self._committed_s, self._told = now_s, False
            made = {partition: self._checkpoint(partition) for partition in self._logs}
            new = {p: one for p, one in made.items() if one is not None and self._committed.get(p) != one}
            try:
                if new:
                    await self.source.commit(new)
            except UnavailableError as error:
                self._told = True
                log.warning("%s; the places of the routes are kept for later", error)
                return
            self._committed.update(new)

    def _checkpoint(self, partition: Partition) -> Checkpoint | None:
        """None while what was dealt with before the start is still being read again."""
        place = self._logs[partition]
        if place.position is None or any(begin > place.position for begin in place.begin.values()):
            return None
        position = place.position
        places = {
            route.name: _Place(route.outbox.next_offset(partition, position), route.outbox.full_ns // 1_000_000_000)
            for route in self.routes
        }
        first = min(one.next for one in places.values())
        learned = min(first - LOOK_BACK, *(route.outbox.learned_from(partition, position) for route in self.routes))
        return Checkpoint(first, max(0, learned, first - LOOK_BACK_MAX), msgspec.json.encode(places).decode())

    # ---- partitions come and go (ports.AssignmentListener)

    async def assigned(self, topic: str, partition: int) -> int | None:
        committed = await self._retried(topic, partition)
        if committed is None:
            self._logs[topic, partition] = _Log({})
            return None
        places = _places(committed.metadata)
        for route in self.routes:
            if route.name in places:
                route.outbox.full_ns = max(route.outbox.full_ns, places[route.name].full_s * 1_000_000_000)
        begin = {route.name: places[route.name].next for route in self.routes if route.name in places}
        self._logs[topic, partition] = _Log(begin)
        self._committed.pop((topic, partition), None)
        return committed.replay_offset

    async def _retried(self, topic: str, partition: int) -> Checkpoint | None:
        while True:
            try:
                return await self.source.committed(topic, partition)
            except UnavailableError as error:
                if self._stopping.is_set():
                    raise
                log.warning("%s; alerts are told later", error)
                await asyncio.sleep(RETRY_S)

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        """What is on its way comes to its end before others may send it."""
        await self._sent()
        if not lost:
            await self._commit(final=True)
        for partition in partitions:
            self._logs.pop(partition, None)
            self._committed.pop(partition, None)
            for route in self.routes:
                route.outbox.forget(partition)


def _places(metadata: str) -> dict[str, _Place]:
    try:
        return msgspec.json.decode(metadata, type=dict[str, _Place])
    except msgspec.DecodeError:  # committed by something else
        return {}
