"""The loop every runtime shares: source -> pipeline -> sinks -> checkpoint. Runtimes differ in wiring alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from stream_ad.errors import UnavailableError
from stream_ad.pipeline import Pipeline
from stream_ad.ports import Clock, Sink, Source, StateStore
from stream_ad.records import Outputs, SourceRecord

__all__ = ["Ingest", "IngestLimits"]

log = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """How often what is done; outputs wait no longer than deliver_s and no more than deliver_slots slots."""

    poll_s: float = 0.2
    deliver_s: float = 0.5
    deliver_slots: int = 4096
    checkpoint_s: float = 5.0
    status_s: float = 5.0
    retry_s: float = 0.5
    retry_max_s: float = 15.0


@dataclass(slots=True)
class Ingest:
    """Runs until the source ends or `stop` is called. One instance is one member of the group.

    on_outputs sees everything that was delivered, after it is durable. Without a state store nothing can be read back,
    so what waits is told when the loop stops.
    """

    source: Source
    pipeline: Pipeline
    sinks: Sequence[Sink]
    states: StateStore | None
    clock: Clock
    limits: IngestLimits = field(default_factory=IngestLimits)
    on_outputs: Callable[[Outputs], None] | None = None
    records_seen: int = 0
    _pending: Outputs = field(default_factory=Outputs)
    _assigned: set[tuple[str, int]] = field(default_factory=set)
    _epoch: int = 0
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
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
                async with self._busy:  # a rebalance may hold it: these records then come again, to us or to another
                    await self._take(records if epoch == self._epoch else ())
            async with self._busy:
                if ended or self.states is None:
                    await self._tell_early(None)
                await self._checkpoint(sorted(self._assigned), final=True)
        finally:
            await self.source.stop()
            if self.states is not None:
                await self.states.stop()

    async def _take(self, records: Sequence[SourceRecord]) -> None:
        now_s = self.clock.monotonic_s()
        if records:
            self.records_seen += len(records)
            self._pending.extend(await asyncio.to_thread(self.pipeline.process, records, now_s))
        waiting = sum(len(batch) for batch in self._pending.scores)
        due = now_s - self._delivered_s >= self.limits.deliver_s
        if due:
            await self._tell_early(now_s)
        if waiting >= self.limits.deliver_slots or due:
            await self._deliver()
        if now_s - self._checkpointed_s >= self.limits.checkpoint_s:
            await self._checkpoint(sorted(self._assigned))

    async def _tell_early(self, now_s: float | None) -> None:
        """What waits on silent series. An alert opened early is in the state before it is in a sink, so that whoever
        goes on from here can withdraw it."""
        early = await asyncio.to_thread(self.pipeline.flush, now_s)
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
        await self._deliver()  # 1
        if self.states is None:
            await self._retry(asyncio.to_thread, partial(self.pipeline.save_profiles, promote=True))
            return
        commits = {}
        for topic, partition in partitions:
            made = await self._retry(asyncio.to_thread, self.pipeline.checkpoint, topic, partition)  # 2
            if made is not None:
                states, checkpoint = made
                await self._retry(self.states.save, topic, partition, states)  # 3
                commits[topic, partition] = checkpoint
        if commits:
            await self._retry(self.source.commit, commits)  # 4

    async def _deliver(self) -> None:
        outputs, self._pending = self._pending, Outputs()
        self._delivered_s = self.clock.monotonic_s()
        if not outputs:
            return
        for sink in self.sinks:
            await self._retry(asyncio.to_thread, sink.write, outputs)
        if self.on_outputs is not None:
            self.on_outputs(outputs)

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
            async with self._busy:
                await self._checkpoint(ours)
        for topic, partition in ours:
            self.pipeline.revoke(topic, partition)
            self._assigned.discard((topic, partition))
