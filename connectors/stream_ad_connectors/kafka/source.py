"""Records of a Kafka consumer group, read in batches with aiokafka, with manual commits."""

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
from stream_ad.records import SourceRecord
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka import private_api
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import async_options, kafka_error, muted_client_logs, timeout_ms
from stream_ad_connectors.kafka.rebalance import AdaptiveBatchSize, RebalanceGate
from stream_ad_connectors.kafka.records import source_records

__all__ = ["KafkaSource"]

_log = logging.getLogger(__name__)
MAX_POLL_INTERVAL_S = 7 * 86_400.0  # a store may be down for days; the watchdog ends a worker that hangs
REBALANCE_TIMEOUT_S = 20.0
_FETCH_S = 0.2
_Callback = Callable[[set[TopicPartition]], Awaitable[None]]


class _Metadata(msgspec.Struct, omit_defaults=True, rename={"replay_offset": "replay_from", "metadata": "note"}):
    replay_offset: int
    metadata: str = ""


class KafkaSource:
    """ports.Source over a consumer group of aiokafka.

    Rebalance callbacks are invoked only from within `poll`. A caller that stops polling delays a rebalance by at most
    REBALANCE_TIMEOUT_S; after that the group continues without it and `revoked(lost=True)` follows. Call `poll` at
    least every MAX_POLL_INTERVAL_S.

    Traps of aiokafka: after a rebalance it may return records from the committed offset before the listener's seek
    (dropped here, and the position restored); it logs and swallows a listener's errors (kept here, the next `poll`
    raises them); `getmany` waits without end for an assignment (cancelled at the deadline).
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
        self._batch_size = AdaptiveBatchSize(max_records)
        self._admin = KafkaAdmin(settings)
        self._consumer: AIOKafkaConsumer[bytes, bytes] | None = None
        self._listener: AssignmentListener | None = None
        self._assigned: set[TopicPartition] = set()
        self._assignment_stable = False
        self._dropped_from: dict[TopicPartition, int] = {}
        self._fetched: list[SourceRecord] = []
        self._gate = RebalanceGate()
        self._commit_refused = False
        self._rebalancing = False  # the topics changed, and the group has not assigned their partitions yet
        self._confirmed_s = -math.inf
        self._failure: BaseException | None = None

    async def start(self, listener: AssignmentListener) -> None:
        """Join the group. UnavailableError within request_timeout_s, ConfigError when a topic does not exist."""
        await asyncio.to_thread(self._admin.partitions, self._topics)
        self._listener = listener
        consumer = self._make_consumer()
        with muted_client_logs():
            try:
                await asyncio.wait_for(consumer.start(), self._settings.request_timeout_s)
            except (KafkaError, OSError, TimeoutError) as error:
                await consumer.stop()
                raise kafka_error(error, self._settings, "joining the group") from error
        await self._gate.admit_callbacks()
        self._consumer = consumer
        self._join()

    async def subscribe(self, topics: Sequence[str]) -> None:
        """ports.TopicReader. Traps of aiokafka: it drops the assignment at once, so no commit succeeds until the next
        one (commit before); and a group leader that does not know a topic yet assigns it to no member (so each member
        fetches its metadata before it joins again)."""
        consumer = self._started()
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                for topic in topics:
                    await private_api.add_topic(consumer, topic)
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, "fetching the metadata of new topics") from error
        self._topics = tuple(topics)
        self._join()

    def _join(self) -> None:
        """Without topics it waits until `subscribe` sets some."""
        if self._topics:
            self._rebalancing = bool(self._assigned)
            listener = _Callbacks(self._on_revoked, self._on_assigned)
            self._started().subscribe(topics=list(self._topics), listener=listener)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        """The next records; empty while the broker is down or the group rebalances."""
        deadline = time.monotonic() + timeout_s
        self._batch_size.poll_started(time.monotonic())
        while True:
            self._started()
            await self._gate.admit_callbacks()
            if not self._topics:
                await asyncio.sleep(timeout_s)
                return []
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            left = deadline - time.monotonic()
            records = await self._fetch(max(0.0, min(left, _FETCH_S)))
            if records or left <= 0:
                self._batch_size.poll_returned(len(records), time.monotonic())
                return records

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        """Offsets, with `replay_offset` and `metadata` in their metadata.

        A commit that the group refuses (it has expelled this member) returns as if it had succeeded, with a warning:
        the new owner replays from the last commit, and the next `poll` calls `revoked(lost=True)`. UnavailableError
        would cause a retry that can never succeed; it is raised only when the broker does not answer.
        """
        offsets = {}
        for (topic, partition), checkpoint in checkpoints.items():
            tp = TopicPartition(topic, partition)
            if tp in self._assigned:
                metadata = msgspec.json.encode(_Metadata(checkpoint.replay_offset, checkpoint.metadata)).decode()
                offsets[tp] = OffsetAndMetadata(checkpoint.next_offset, metadata)
            else:
                _log.warning("no commit for %s/%d: the partition is no longer assigned", topic, partition)
        if not offsets or self._rebalancing:
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
        """Sends a heartbeat when the last confirmation is older than half a session: a member that was frozen or cut
        off for longer than the session does not know that the group continued without it. Trap: aiokafka does not
        report its own heartbeats."""
        consumer = self._started()
        asked_s = time.monotonic()
        if self._partitions_lost() or asked_s - self._confirmed_s < self._settings.session_timeout_s / 2:
            return not self._partitions_lost()
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                alive = await private_api.send_heartbeat(consumer)
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, "confirming the group membership") from error
        if alive:
            self._confirmed_s = asked_s
        elif not self._partitions_lost():
            raise UnavailableError(f"the group's coordinator at {self._settings.bootstrap} does not answer")
        return not self._partitions_lost()

    async def lags(self) -> Mapping[tuple[str, int], PartitionLag] | None:
        """Asks the broker for the log-end offsets: those of the last fetch are stale while nothing is fetched."""
        consumer, ours = self._consumer, sorted(self._assigned)
        if consumer is None or not self._assignment_stable:  # before the first assignment, or after `stop`
            return None
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                ends = await consumer.end_offsets(ours)
                return {(tp.topic, tp.partition): PartitionLag(await consumer.position(tp), ends[tp]) for tp in ours}
        except IllegalStateError:  # revoked meanwhile
            return None
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, "asking for the log-end offsets") from error

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        """Through the admin client: aiokafka's `committed` returns the offset without its metadata."""
        found = (await asyncio.to_thread(self._admin.committed, [(topic, partition)])).get((topic, partition))
        if found is None:
            return None
        try:
            stored = msgspec.json.decode(found.metadata, type=_Metadata)
        except msgspec.DecodeError:  # another program committed it
            stored = _Metadata(found.offset)
        return Checkpoint(found.offset, min(max(0, stored.replay_offset), found.offset), stored.metadata)

    async def stop(self) -> None:
        """Leaves the group, so that other members take over at once; does not call the listener. Idempotent."""
        consumer, self._consumer = self._consumer, None
        self._listener = None
        self._assigned.clear()
        self._gate.release()
        if consumer is not None:
            await consumer.stop()
        await asyncio.to_thread(self._admin.close)

    def _make_consumer(self) -> AIOKafkaConsumer[bytes, bytes]:
        session_ms = int(self._settings.session_timeout_s * 1000)
        options = async_options(self._settings)
        # The answer to a join waits for every member: a shorter time-out would join again as one more new member.
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
        """Records go through `_fetched`, so that a cancelled poll leaves them to the next one."""
        fetching = asyncio.ensure_future(
            self._started().getmany(timeout_ms=int(timeout_s * 1000), max_records=self._batch_size.limit)
        )
        fetching.add_done_callback(self._keep)
        callback = asyncio.ensure_future(self._gate.callback_waiting.wait())
        try:
            await asyncio.wait({fetching, callback}, timeout=timeout_s + 0.05, return_when=asyncio.FIRST_COMPLETED)
        finally:
            callback.cancel()
            fetching.cancel()
            await asyncio.wait({fetching, callback})
        records, self._fetched = self._fetched, []
        error = None if fetching.cancelled() else fetching.exception()
        if error is not None:
            if not isinstance(error, KafkaError):
                raise error
            mapped = kafka_error(error, self._settings, "reading records")
            if not isinstance(mapped, UnavailableError):
                raise mapped from error
            await asyncio.sleep(timeout_s)
        return records

    def _keep(self, fetching: asyncio.Future[dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]]) -> None:
        if fetching.cancelled() or fetching.exception() is not None:
            return
        for tp, batch in fetching.result().items():
            if tp in self._assigned:
                self._fetched.extend(source_records(batch))
            else:  # fetched before the listener returned the offset to begin at
                self._dropped_from.setdefault(tp, batch[0].offset)

    async def _on_revoked(self, partitions: set[TopicPartition]) -> None:
        self._assignment_stable = False
        async with self._gate.callback():
            self._dropped_from.clear()
            revoked = sorted((tp.topic, tp.partition) for tp in self._assigned & partitions)
            self._fetched = [r for r in self._fetched if (r.position.topic, r.position.partition) not in revoked]
            if revoked and self._listener is not None:
                await self._notify(self._listener.revoked(revoked, lost=self._partitions_lost()))  # it may still commit
            self._assigned -= partitions
            self._commit_refused = self._rebalancing = False

    async def _on_assigned(self, partitions: set[TopicPartition]) -> None:
        async with self._gate.callback():
            for tp in sorted(partitions):
                if self._listener is None or self._consumer is None or self._failure is not None:
                    return
                offset = await self._notify(self._listener.assigned(tp.topic, tp.partition))
                if self._failure is not None:
                    return
                offset = self._dropped_from.pop(tp, None) if offset is None else offset
                if offset is not None:
                    self._consumer.seek(tp, offset)
                self._assigned.add(tp)
            self._assignment_stable = True

    def _partitions_lost(self) -> bool:
        return self._commit_refused or private_api.generation(self._consumer) < 0

    async def _notify(self, call: Coroutine[Any, Any, int | None]) -> int | None:
        """Keeps an error of the listener for the next `poll`; aiokafka would log and swallow it."""
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
