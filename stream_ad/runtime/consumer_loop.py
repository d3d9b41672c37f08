"""The loop every runtime shares: source -> pipeline -> sinks -> checkpoint. Runtimes differ in wiring alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Clock, Sink, Source, StateStore, TopicReader
from stream_ad.records import Outputs, SourceRecord
from stream_ad.settings import Subscription

__all__ = ["ConsumerLimits", "ConsumerLoop"]

log = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """How often what is done; outputs wait no longer than deliver_s and no more than deliver_slots slots, alerts not at
    all."""

    poll_s: float = 0.2
    deliver_s: float = 0.5
    deliver_slots: int = 4096
    checkpoint_s: float = 5.0
    status_s: float = 5.0
    retry_s: float = 0.5
    retry_max_s: float = 15.0


class _FencedError(Exception):
    """Another may own the partitions."""


@dataclass(slots=True)
class ConsumerLoop:
    """Runs until the source ends or `stop` is called. One instance is one member of the group.

    on_outputs sees everything that was delivered, after it is durable. Without a state store nothing can be read back,
    so what waits is told when the loop stops.
    """

    source: Source
    pipeline: Pipeline
    sinks: Sequence[Sink]
    states: StateStore | None
    clock: Clock
    limits: ConsumerLimits = field(default_factory=ConsumerLimits)
    on_outputs: Callable[[Outputs], None] | None = None
    records_seen: int = 0
    _pending: Outputs = field(default_factory=Outputs)
    _delivery: asyncio.Task[None] | None = None
    _assigned: set[tuple[str, int]] = field(default_factory=set)
    _epoch: int = 0
    _losses: int = 0  # how often partitions were lost without our doing
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    # One thread for all that the pipeline does: what series hold, allocated by several, took up to six times the memory
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "pipeline"))
    _delivered_s: float = 0.0
    _checkpointed_s: float = 0.0
    _status_s: float = 0.0

    def stop(self) -> None:
        """Ends `run` after the work in hand is durable. Call it from the loop's own thread."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the sinks; after `run`."""
        for sink in self.sinks:
            sink.close()
        self._thread.shutdown(wait=False)

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Reads these topics from now on, and no others. What is in hand is committed first: a source that lets its
        partitions go in order to share them out anew has none to commit for."""
        if not isinstance(self.source, TopicReader):
            raise StreamAdError("this source reads the topics it was made with")
        async with self._busy, self._while_ours():
            await self._checkpoint(sorted(self._assigned))
            await self._worked(self.pipeline.subscribe, subscriptions)
            await self.source.subscribe([one.topic for one in subscriptions])

    async def run(self) -> None:
        ended = False
        await self.source.start(self)
        try:
            while not self._stopping.is_set():
                records = await self.source.poll(self.limits.poll_s)
                if records is None:
                    ended = True
                    break
                epoch = self._epoch
                async with self._busy, self._while_ours():
                    # a rebalance may have held it: these records then come again, to us or to another
                    await self._take(records if epoch == self._epoch else ())
            async with self._busy, self._while_ours():
                if ended or self.states is None:
                    await self._tell_early(None)
                await self._checkpoint(sorted(self._assigned), final=True)
        finally:
            await self._give_up()
            await self.source.stop()
            if self.states is not None:
                await self.states.stop()

    async def _take(self, records: Sequence[SourceRecord]) -> None:
        now_s = self.clock.monotonic_s()
        if records:
            self.records_seen += len(records)
            self._pending.extend(await self._worked(self.pipeline.process, records, now_s))
        if self._delivery is not None and self._delivery.done():
            await self._delivered()
        waiting = sum(len(batch) for batch in self._pending.scores)
        due = now_s - self._delivered_s >= self.limits.deliver_s
        if due:
            await self._tell_early(now_s)
        if waiting >= self.limits.deliver_slots or due or self._pending.alerts:
            await self._hand_over()
        if now_s - self._checkpointed_s >= self.limits.checkpoint_s:
            await self._checkpoint(sorted(self._assigned))

    async def _tell_early(self, now_s: float | None) -> None:
        """What waits on silent series. An alert opened early is in the state before it is in a sink, so that whoever
        goes on from here can withdraw it."""
        early = await self._worked(self.pipeline.flush, now_s)
        if early.alerts:
            await self._checkpoint(sorted(self._assigned))
        self._pending.extend(early)

    # ---- the order on which every guarantee rests

    async def _checkpoint(self, partitions: Sequence[tuple[str, int]], *, final: bool = False) -> None:
        """Sinks flushed (1) -> profiles and states durable (2, 3) -> offsets committed (4). A crash between any two of
        these repeats outputs, which are idempotent, and loses nothing."""
        now_s = self._checkpointed_s = self.clock.monotonic_s()
        if final or now_s - self._status_s >= self.limits.status_s:
            self._status_s = now_s
            self._pending.statuses += self.pipeline.changed_statuses()
        await self._hand_over()
        await self._delivered()  # 1
        if self.states is None:
            await self._retry(self._worked, partial(self.pipeline.save_profiles, promote=True))
            return
        commits = {}
        for topic, partition in partitions:
            made = await self._retry(self._worked, self.pipeline.checkpoint, topic, partition)  # 2
            if made is not None:
                states, checkpoint = made
                await self._retry(self._save, topic, partition, states)  # 3
                commits[topic, partition] = checkpoint
        if commits:
            await self._retry(self.source.commit, commits)  # 4

    async def _hand_over(self) -> None:
        """Begins to deliver what is pending, once the delivery before it is done: so the next records are processed
        while these outputs are written, outputs keep their order, and no more than two lots wait in memory."""
        await self._delivered()
        outputs, self._pending = self._pending, Outputs()
        self._delivered_s = self.clock.monotonic_s()
        if outputs:
            self._delivery = asyncio.create_task(self._deliver(outputs, self._losses))

    async def _delivered(self) -> None:
        """Waits until what was handed over is durable; raises what stood in its way."""
        if self._delivery is not None:
            await asyncio.wait({self._delivery})
            delivery, self._delivery = self._delivery, None
            await delivery

    async def _give_up(self) -> None:
        """Nothing may write any more once `run` is over, however it ended."""
        self._stopping.set()
        if self._delivery is not None:
            await asyncio.wait({self._delivery})
            if not self._delivery.cancelled() and (error := self._delivery.exception()) is not None:
                log.debug("a delivery ended with the loop: %s", error)

    async def _deliver(self, outputs: Outputs, losses: int) -> None:
        try:
            for sink in self.sinks:
                await self._retry(self._write, sink, outputs, losses)
        except _FencedError:
            if losses == self._losses:  # else the loop was told; what is pending by now is of partitions it has now
                raise
            return
        if self.on_outputs is not None:
            self.on_outputs(outputs)

    async def _write(self, sink: Sink, outputs: Outputs, losses: int) -> None:
        """At every attempt anew: who waited long for a store may have been given up by the group meanwhile, and a store
        cannot tell an old revision, written late, from a new one."""
        await self._check_ours(losses)
        await asyncio.to_thread(sink.write, outputs)

    async def _save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        assert self.states is not None
        await self._check_ours(self._losses)
        await self.states.save(topic, partition, states)

    async def _check_ours(self, losses: int) -> None:
        if losses != self._losses or not await self.source.owns_partitions():
            raise _FencedError

    @contextlib.asynccontextmanager
    async def _while_ours(self) -> AsyncIterator[None]:
        """What was in hand when the partitions were lost is left: whoever goes on, from the last commit, tells it."""
        try:
            yield
        except _FencedError:
            self._pending = Outputs()
            log.warning("the group went on without this worker; what it had in hand comes again, to it or to another")

    async def _worked(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(action, *args, **kwargs))

    async def _retry(self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Awaits `action` until what it needs is back: nothing is read meanwhile, nothing is dropped."""
        wait_s = self.limits.retry_s
        while True:
            try:
                return await action(*args, **kwargs)
            except UnavailableError as error:
                pause_s = max(wait_s, error.retry_after_s or 0.0)
                log.warning("%s; reading is paused, trying again in %.1f s", error, pause_s)
                wait_s = min(2 * wait_s, self.limits.retry_max_s)
                if self._stopping.is_set():
                    raise
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause_s)

    # ---- partitions come and go (ports.AssignmentListener)

    async def assigned(self, topic: str, partition: int) -> int | None:
        self._epoch += 1
        self._assigned.add((topic, partition))
        if self.states is None:
            return self.pipeline.assign(topic, partition, {}, None)
        states = await self._retry(self.states.load, topic, partition)
        committed = await self._retry(self.source.committed, topic, partition)
        offset = self.pipeline.assign(topic, partition, states, committed)
        log.info(
            "partition %s-%d: %d series known, reading from %s",
            *(topic, partition, len(states), offset),
            extra={"topic": topic, "partition": partition, "offset": offset},
        )
        return offset

    async def revoked(self, partitions: Sequence[tuple[str, int]], *, lost: bool) -> None:
        self._epoch += 1
        ours = [p for p in partitions if p in self._assigned]
        if not lost and not self._stopping.is_set():
            async with self._busy, self._while_ours():
                await self._checkpoint(ours)
        if lost:
            self._losses += 1
            self._pending = Outputs()
            delivery = self._delivery
            if delivery is not None and delivery.done() and isinstance(delivery.exception(), _FencedError):
                self._delivery = None  # known now, and not to be held against what comes next
        for topic, partition in ours:
            self.pipeline.revoke(topic, partition)
            self._assigned.discard((topic, partition))
