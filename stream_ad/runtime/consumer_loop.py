"""The consumer loop that every runtime shares: source -> pipeline -> sinks -> checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from stream_ad.backoff import Backoff
from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Clock, Sink, Source, StateStore, TopicReader
from stream_ad.records import Outputs, Partition, SourceRecord
from stream_ad.settings import Subscription

__all__ = ["ConsumerLimits", "ConsumerLoop"]

log = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """Intervals of the loop. A delivery starts after deliver_s, after deliver_slots scored slots, or with an alert."""

    poll_s: float = 0.2
    deliver_s: float = 0.5
    deliver_slots: int = 4096
    checkpoint_s: float = 5.0
    status_s: float = 5.0
    retry_s: float = 0.5
    retry_max_s: float = 15.0


class _FencedError(Exception):
    """Another consumer may own the partitions."""


@dataclass(slots=True)
class ConsumerLoop:
    """Runs until the source ends or `stop` is called. One instance is one member of the consumer group.

    on_outputs receives every delivery once it is durable in all sinks. Without a state store nothing can be replayed,
    so the loop emits the waiting slots as provisional scores when it stops.
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
    _delivery: asyncio.Task[None] | None = None  # in flight, at most one
    _assigned: set[Partition] = field(default_factory=set)
    _assignment_epoch: int = 0  # counts assignments and revocations
    _loss_epoch: int = 0  # counts revocations after which another consumer may own the partitions already
    _processing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    # all pipeline work runs in this one thread: allocations of several threads took up to six times the memory
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "pipeline"))
    _delivered_s: float = 0.0
    _checkpointed_s: float = 0.0
    _status_s: float = 0.0

    def stop(self) -> None:
        """Ends `run` once all outputs are durable. Call it from the loop's own thread."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the sinks; call it after `run`."""
        for sink in self.sinks:
            sink.close()
        self._thread.shutdown(wait=False)

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Replaces the topics. Commits first: a source that gives up its partitions in order to rebalance cannot commit
        them afterwards."""
        if not isinstance(self.source, TopicReader):
            raise StreamAdError("the topics of this source are fixed")
        async with self._processing, self._unless_fenced():
            await self._checkpoint(sorted(self._assigned))
            await self._in_thread(self.pipeline.subscribe, subscriptions)
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
                epoch = self._assignment_epoch
                async with self._processing, self._unless_fenced():
                    # a rebalance may have held the lock; these records are then read again, here or elsewhere
                    await self._process(records if epoch == self._assignment_epoch else ())
            async with self._processing, self._unless_fenced():
                if ended or self.states is None:
                    await self._emit_provisional(None)
                await self._checkpoint(sorted(self._assigned), final=True)
        finally:
            await self._stop_delivery()
            await self.source.stop()
            if self.states is not None:
                await self.states.stop()

    async def _process(self, records: Sequence[SourceRecord]) -> None:
        now_s = self.clock.monotonic_s()
        if records:
            self.records_seen += len(records)
            self._pending.extend(await self._in_thread(self.pipeline.process, records, now_s))
        if self._delivery is not None and self._delivery.done():
            await self._finish_delivery()
        waiting = sum(len(batch) for batch in self._pending.scores)
        due = now_s - self._delivered_s >= self.limits.deliver_s
        if due:
            await self._emit_provisional(now_s)
        if waiting >= self.limits.deliver_slots or due or self._pending.alerts:
            await self._start_delivery()
        if now_s - self._checkpointed_s >= self.limits.checkpoint_s:
            await self._checkpoint(sorted(self._assigned))

    async def _emit_provisional(self, now_s: float | None) -> None:
        """Emits provisional scores of silent series. A provisional alert is checkpointed before it is delivered, so
        that the next owner of the partition can retract it."""
        provisional = await self._in_thread(self.pipeline.flush, now_s)
        if provisional.alerts:
            await self._checkpoint(sorted(self._assigned))
        self._pending.extend(provisional)

    # ---- the order on which every guarantee rests

    async def _checkpoint(self, partitions: Sequence[Partition], *, final: bool = False) -> None:
        """Sinks flushed (1) -> profiles and states durable (2, 3) -> offsets committed (4). A crash between any two of
        these repeats outputs, which are idempotent, and loses nothing."""
        now_s = self._checkpointed_s = self.clock.monotonic_s()
        if final or now_s - self._status_s >= self.limits.status_s:
            self._status_s = now_s
            self._pending.statuses += self.pipeline.changed_statuses()
        await self._start_delivery()
        await self._finish_delivery()  # 1
        if self.states is None:
            await self._retry(self._in_thread, partial(self.pipeline.save_profiles, promote=True))
            return
        commits = {}
        for topic, partition in partitions:
            made = await self._retry(self._in_thread, self.pipeline.checkpoint, topic, partition)  # 2
            if made is not None:
                states, checkpoint = made
                await self._retry(self._save, topic, partition, states)  # 3
                commits[topic, partition] = checkpoint
        if commits:
            await self._retry(self.source.commit, commits)  # 4

    async def _start_delivery(self) -> None:
        """Delivers the pending outputs in the background while the next records are processed. Waits for the delivery
        before it: outputs keep their order, and memory holds two deliveries at most."""
        await self._finish_delivery()
        outputs, self._pending = self._pending, Outputs()
        self._delivered_s = self.clock.monotonic_s()
        if outputs:
            self._delivery = asyncio.create_task(self._deliver(outputs, self._loss_epoch))

    async def _finish_delivery(self) -> None:
        """Waits until the delivery in flight is durable; raises its error."""
        if self._delivery is not None:
            await asyncio.wait({self._delivery})
            delivery, self._delivery = self._delivery, None
            await delivery

    async def _stop_delivery(self) -> None:
        """Nothing may be written once `run` has ended, for whatever reason."""
        self._stopping.set()
        if self._delivery is not None:
            await asyncio.wait({self._delivery})
            if not self._delivery.cancelled() and (error := self._delivery.exception()) is not None:
                log.debug("the last delivery failed: %s", error)

    async def _deliver(self, outputs: Outputs, loss_epoch: int) -> None:
        try:
            for sink in self.sinks:
                await self._retry(self._write, sink, outputs, loss_epoch)
        except _FencedError:
            if loss_epoch == self._loss_epoch:  # else `revoked` has dropped the pending outputs of that epoch
                raise
            return
        if self.on_outputs is not None:
            self.on_outputs(outputs)

    async def _write(self, sink: Sink, outputs: Outputs, loss_epoch: int) -> None:
        """Checks the fencing before every attempt: a consumer that waited long for a store may have left the group, and
        a store cannot distinguish a late write of an old revision from a new one."""
        await self._check_fencing(loss_epoch)
        await asyncio.to_thread(sink.write, outputs)

    async def _save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        assert self.states is not None
        await self._check_fencing(self._loss_epoch)
        await self.states.save(topic, partition, states)

    async def _check_fencing(self, loss_epoch: int) -> None:
        if loss_epoch != self._loss_epoch or not await self.source.owns_partitions():
            raise _FencedError

    @contextlib.asynccontextmanager
    async def _unless_fenced(self) -> AsyncIterator[None]:
        """Swallows _FencedError and drops the outputs in flight; the new owner recomputes them from the last committed
        offset."""
        try:
            yield
        except _FencedError:
            self._pending = Outputs()
            log.warning(
                "the group continued without this worker; outputs in flight are dropped, the next owner recomputes them"
            )

    async def _in_thread(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(action, *args, **kwargs))

    async def _retry(self, action: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Repeats `action` while it raises UnavailableError: meanwhile nothing is read and nothing is dropped."""
        backoff = Backoff(self.limits.retry_s, self.limits.retry_max_s)
        while True:
            try:
                return await action(*args, **kwargs)
            except UnavailableError as error:
                wait_s = backoff.next_wait(error.retry_after_s)
                log.warning("%s; reading is paused, trying again in %.1f s", error, wait_s)
                if self._stopping.is_set():
                    raise
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait_s)

    # ---- rebalances: the methods of ports.AssignmentListener

    async def assigned(self, topic: str, partition: int) -> int | None:
        self._assignment_epoch += 1
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

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        self._assignment_epoch += 1
        ours = [p for p in partitions if p in self._assigned]
        if not lost and not self._stopping.is_set():
            async with self._processing, self._unless_fenced():
                await self._checkpoint(ours)
        if lost:
            self._loss_epoch += 1
            self._pending = Outputs()
            delivery = self._delivery
            if delivery is not None and delivery.done() and isinstance(delivery.exception(), _FencedError):
                self._delivery = None  # the loss is handled here; the next delivery must not fail for it
        for topic, partition in ours:
            self.pipeline.revoke(topic, partition)
            self._assigned.discard((topic, partition))
