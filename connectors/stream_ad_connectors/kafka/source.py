"""Records from Kafka in a consumer group, read in batches over aiokafka, committed by hand."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.ports import AssignmentListener, Checkpoint, PartitionLag
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import async_options, kafka_error, quiet, timeout_ms
from stream_ad_connectors.kafka.rebalance import AdaptiveBatchSize, RebalanceGate

__all__ = ["KafkaSource", "kafka_records"]


def kafka_records(records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[SourceRecord]:
    """Of aiokafka or kafka-python; Kafka's milliseconds become nanoseconds, no timestamp becomes 0."""
    return [
        SourceRecord(
            SourcePosition(r.topic, r.partition, r.offset),
            max(0, r.timestamp) * 1_000_000,
            _bytes(r.key),
            _bytes(r.value),
        )
        for r in records
    ]


def _bytes(payload: bytes | bytearray | memoryview | None) -> bytes | None:
    return payload if payload is None or type(payload) is bytes else bytes(payload)


_log = logging.getLogger(__name__)
MAX_POLL_INTERVAL_S = 7 * 86_400.0  # a store may be away for days; a worker that hangs is its watchdog's to end
REBALANCE_TIMEOUT_S = 20.0
_SLICE_S = 0.2
_Callback = Callable[[set[TopicPartition]], Awaitable[None]]


class _Metadata(msgspec.Struct, omit_defaults=True, rename={"replay_offset": "replay_from", "metadata": "note"}):
    replay_offset: int
    metadata: str = ""


class KafkaSource:
    """Source over a consumer group of aiokafka.

    The listener is told inside `poll` alone, never while its caller works on records: aiokafka calls back from a task
    of its own, so a turnstile (a lock the caller holds between polls) lets it in. A caller that does not poll thus
    holds a rebalance up, for REBALANCE_TIMEOUT_S at most; then the group goes on without it and `revoked` comes with
    `lost=True`. Call `poll` at least every MAX_POLL_INTERVAL_S.

    Traps of aiokafka met here: after a rebalance records read from the committed offset may be handed out before the
    listener's seek (dropped here, and the position set back); errors of a listener are logged and swallowed (kept
    here and raised by the next `poll`); `getmany` waits without end for an assignment (left at the deadline).
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        *,
        max_records: int = 10_000,
        assignor: type[AbstractPartitionAssignor] = RoundRobinPartitionAssignor,
    ) -> None:
        self._settings = settings
        self._assignor = assignor
        self._topics = tuple(topics)
        self._pace = AdaptiveBatchSize(max_records)
        self._admin = KafkaAdmin(settings)
        self._consumer: AIOKafkaConsumer[bytes, bytes] | None = None
        self._listener: AssignmentListener | None = None
        self._open: set[TopicPartition] = set()
        self._settled = False
        self._dropped: dict[TopicPartition, int] = {}
        self._ready: list[SourceRecord] = []
        self._turnstile = RebalanceGate()
        self._commit_refused = False
        self._moving = False  # the topics changed, and the partitions are not shared out yet
        self._confirmed_s = -math.inf
        self._failure: BaseException | None = None

    async def start(self, listener: AssignmentListener) -> None:
        """Join the group. UnavailableError within request_timeout_s, ConfigError when a topic does not exist."""
        await asyncio.to_thread(self._admin.partitions, self._topics)
        self._listener = listener
        consumer = self._make_consumer()
        with quiet():
            try:
                await asyncio.wait_for(consumer.start(), self._settings.request_timeout_s)
            except (KafkaError, OSError, TimeoutError) as error:
                await consumer.stop()
                raise kafka_error(error, self._settings, "joining the group") from error
        await self._turnstile.hold()
        self._consumer = consumer
        self._join()

    async def subscribe(self, topics: Sequence[str]) -> None:
        """ports.TopicReader. Traps of aiokafka: it lets the partitions go at once, so nothing can be committed until
        they are shared out anew (commit before); and a leader that does not know a topic yet shares it out to nobody
        (so each member learns of it before it joins again)."""
        client = getattr(self._started(), "_client")  # noqa: B009 (private: no other way to wait for it)
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                for topic in topics:
                    await client.add_topic(topic)
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, "learning of topics") from error
        self._topics = tuple(topics)
        self._join()

    def _join(self) -> None:
        """Without a topic it waits for one."""
        if self._topics:
            self._moving = bool(self._open)
            listener = _Callbacks(self._on_revoked, self._on_assigned)
            self._started().subscribe(topics=list(self._topics), listener=listener)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        """The next records; empty while the broker is away or the group rebalances."""
        deadline = time.monotonic() + timeout_s
        self._pace.asked(time.monotonic())
        while True:
            self._started()
            await self._turnstile.hold()
            if not self._topics:
                await asyncio.sleep(timeout_s)
                return []
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            left = deadline - time.monotonic()
            records = await self._fetch(max(0.0, min(left, _SLICE_S)))
            if records or left <= 0:
                self._pace.handed(len(records), time.monotonic())
                return records

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        """Offsets, with `replay_offset` and `metadata` in their metadata.

        A commit that the group refuses (it went on without this member) returns as if it had succeeded, with a
        warning: the new owner replays from the last commit, and the next `poll` tells `revoked(lost=True)`. To raise
        UnavailableError would ask for a retry that can never succeed. UnavailableError = the broker did not answer.
        """
        offsets = {}
        for (topic, partition), checkpoint in checkpoints.items():
            tp = TopicPartition(topic, partition)
            if tp in self._open:
                metadata = msgspec.json.encode(_Metadata(checkpoint.replay_offset, checkpoint.metadata)).decode()
                offsets[tp] = OffsetAndMetadata(checkpoint.next_offset, metadata)
            else:
                _log.warning("no commit for %s/%d: the partition is no longer ours", topic, partition)
        if not offsets or self._moving:
            return
        asked_s = time.monotonic()
        try:
            await asyncio.wait_for(self._started().commit(offsets), self._settings.request_timeout_s)
        except (CommitFailedError, IllegalStateError) as error:
            self._commit_refused = True
            _log.warning("commit refused, another member takes over: %s", error)
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, "committing offsets") from error
        else:
            self._confirmed_s = asked_s

    async def owns_partitions(self) -> bool:
        """A member that was frozen, or cut off, for longer than the session does not know that others went on; so the
        group is asked when it last said yes half a session ago. Trap: aiokafka tells nobody of its own heartbeats."""
        self._started()
        asked_s = time.monotonic()
        if self._lost() or asked_s - self._confirmed_s < self._settings.session_timeout_s / 2:
            return not self._lost()
        coordinator = getattr(self._consumer, "_coordinator")  # noqa: B009 (private: no other way to ask)
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                await coordinator.ensure_coordinator_known()
                alive = await coordinator._do_heartbeat()
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, "asking the group for our place in it") from error
        if alive:
            self._confirmed_s = asked_s
        elif not self._lost():
            raise UnavailableError(f"the group's coordinator at {self._settings.bootstrap} does not answer")
        return not self._lost()

    async def lags(self) -> Mapping[tuple[str, int], PartitionLag] | None:
        """Asks the broker for the ends: those of the last fetch are old while nothing is fetched."""
        consumer, ours = self._consumer, sorted(self._open)
        if consumer is None or not self._settled:  # asked before the group was joined, or after it was left
            return None
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                ends = await consumer.end_offsets(ours)
                return {(tp.topic, tp.partition): PartitionLag(await consumer.position(tp), ends[tp]) for tp in ours}
        except IllegalStateError:  # taken away meanwhile
            return None
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, "asking for the ends of the partitions") from error

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        """Through the admin client: aiokafka's own `committed` gives the offset without its metadata."""
        found = (await asyncio.to_thread(self._admin.committed, [(topic, partition)])).get((topic, partition))
        if found is None:
            return None
        try:
            kept = msgspec.json.decode(found.metadata, type=_Metadata)
        except msgspec.DecodeError:  # committed by something else
            kept = _Metadata(found.offset)
        return Checkpoint(found.offset, min(max(0, kept.replay_offset), found.offset), kept.metadata)

    async def stop(self) -> None:
        """Leave the group, so that others take over at once; the listener is not told. May be called twice."""
        consumer, self._consumer = self._consumer, None
        self._listener = None
        self._open.clear()
        self._turnstile.free()
        if consumer is not None:
            await consumer.stop()
        await asyncio.to_thread(self._admin.close)

    def _make_consumer(self) -> AIOKafkaConsumer[bytes, bytes]:
        session_ms = int(self._settings.session_timeout_s * 1000)
        options = async_options(self._settings)
        # The answer to a join waits for every member: to give up sooner is to join as one more new member, and again.
        options["request_timeout_ms"] = max(timeout_ms(self._settings), int((REBALANCE_TIMEOUT_S + 5) * 1000))
        return AIOKafkaConsumer(
            **options,
            group_id=self._settings.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(self._assignor,),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(100, min(3000, session_ms // 4)),
            rebalance_timeout_ms=int(REBALANCE_TIMEOUT_S * 1000),
            max_poll_interval_ms=int(MAX_POLL_INTERVAL_S * 1000),
        )

    def _started(self) -> AIOKafkaConsumer[bytes, bytes]:
        if self._consumer is None:
            raise StreamAdError("the source is not started, or was stopped")
        return self._consumer

    async def _fetch(self, timeout_s: float) -> list[SourceRecord]:
        """What getmany takes out goes through `_ready`: a poll that is cancelled leaves it to the next one."""
        fetching = asyncio.ensure_future(
            self._started().getmany(timeout_ms=int(timeout_s * 1000), max_records=self._pace.limit)
        )
        fetching.add_done_callback(self._take)
        wanted = asyncio.ensure_future(self._turnstile.wanted.wait())
        try:
            await asyncio.wait({fetching, wanted}, timeout=timeout_s + 0.05, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
            fetching.cancel()
            await asyncio.wait({fetching, wanted})
        records, self._ready = self._ready, []
        error = None if fetching.cancelled() else fetching.exception()
        if error is not None:
            if not isinstance(error, KafkaError):
                raise error
            mapped = kafka_error(error, self._settings, "reading records")
            if not isinstance(mapped, UnavailableError):
                raise mapped from error
            await asyncio.sleep(timeout_s)
        return records

    def _take(self, fetching: asyncio.Future[dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]]) -> None:
        if fetching.cancelled() or fetching.exception() is not None:
            return
        for tp, batch in fetching.result().items():
            if tp in self._open:
                self._ready.extend(kafka_records(batch))
            else:  # handed out before the listener said where to begin
                self._dropped.setdefault(tp, batch[0].offset)

    async def _on_revoked(self, partitions: set[TopicPartition]) -> None:
        self._settled = False
        async with self._turnstile.turn():
            self._dropped.clear()
            gone = sorted((tp.topic, tp.partition) for tp in self._open & partitions)
            self._ready = [r for r in self._ready if (r.position.topic, r.position.partition) not in gone]
            if gone and self._listener is not None:
                await self._tell(self._listener.revoked(gone, lost=self._lost()))  # it may still commit
            self._open -= partitions
            self._commit_refused = self._moving = False

    async def _on_assigned(self, partitions: set[TopicPartition]) -> None:
        async with self._turnstile.turn():
            for tp in sorted(partitions):
                if self._listener is None or self._consumer is None or self._failure is not None:
                    return
                offset = await self._tell(self._listener.assigned(tp.topic, tp.partition))
                if self._failure is not None:
                    return
                offset = self._dropped.pop(tp, None) if offset is None else offset
                if offset is not None:
                    self._consumer.seek(tp, offset)
                self._open.add(tp)
            self._settled = True

    def _lost(self) -> bool:
        """aiokafka has no callback for lost partitions; its generation falls to -1 when the group forgot us."""
        coordinator = getattr(self._consumer, "_coordinator", None)
        return self._commit_refused or getattr(coordinator, "generation", 0) < 0

    async def _tell(self, call: Coroutine[Any, Any, int | None]) -> int | None:
        """Keeps what the listener raises for the next `poll`; aiokafka would log and forget it."""
        task = asyncio.ensure_future(call)
        await asyncio.wait({task})
        error = task.exception()
        if error is not None:
            self._failure = error
            return None
        return task.result()


class _Callbacks(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, revoked: _Callback, assigned: _Callback) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._assigned(assigned)
