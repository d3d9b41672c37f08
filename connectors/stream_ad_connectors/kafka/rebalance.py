"""Parts of a consumer group member: the gate for rebalance callbacks, the adaptive poll size, an assignor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

__all__ = ["AdaptiveBatchSize", "RebalanceGate", "SingleActiveAssignor"]

FIRST_RECORDS, MIN_RECORDS = 200, 50  # a record may be a block of 1,000 rows: start low, double with every fast poll


class AdaptiveBatchSize:
    """Adapts max_poll_records so that the caller's work between two polls takes about `target_s`.

    A rebalance waits for every member's next poll, and continues without a member that takes too long. On a slow
    machine with a large backlog, workers that read too much at once would take the partitions from one another for
    ever, and none would get as far as a commit.
    """

    def __init__(self, max_records: int, target_s: float = 2.0) -> None:
        self._max_records = max_records
        self._target_s = target_s
        self._returned = 0
        self._returned_s = 0.0
        self.limit = min(max_records, FIRST_RECORDS)

    def poll_returned(self, count: int, now_s: float) -> None:
        self._returned, self._returned_s = count, now_s

    def poll_started(self, now_s: float) -> None:
        """Lowers the limit after slow work (an outage of the store counts too, and is soon compensated), doubles it
        after a full batch that was fast."""
        took_s = now_s - self._returned_s
        if self._returned and took_s > self._target_s:
            self.limit = max(min(MIN_RECORDS, self._max_records), int(self._returned * self._target_s / took_s))
        elif self._returned >= self.limit and took_s < self._target_s / 2:
            self.limit = min(self._max_records, 2 * self.limit)
        self._returned = 0


class SingleActiveAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """Assigns every partition to the member with the lowest id. Trap: ids are random, so a new member may be it."""

    name = "one-member"
    version = 0

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        first = min(members)
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        every = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in topics]
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, every if member == first else [], b"")
            for member in members
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Keeps no state."""


class RebalanceGate:
    """Lock between the poll loop and aiokafka's rebalance callbacks: callbacks run only inside `poll`, never while
    fetched records are being processed.

    The poll loop owns it except inside `admit_callbacks`. `callback_waiting` is set while a callback waits. Create it
    inside the event loop that uses it.
    """

    def __init__(self) -> None:
        self.callback_waiting = asyncio.Event()
        self._lock = asyncio.Lock()
        self._owned = False
        self._waiting = 0

    async def admit_callbacks(self) -> None:
        """Lets every waiting callback run (the lock is first come, first served), then owns the lock again."""
        self.release()
        await self._lock.acquire()
        self._owned = True

    def release(self) -> None:
        """The poll loop ends: callbacks run at any time from now on."""
        if self._owned:
            self._owned = False
            self._lock.release()

    @asynccontextmanager
    async def callback(self) -> AsyncIterator[None]:
        """A callback waits for its turn and runs inside."""
        self._waiting += 1
        self.callback_waiting.set()
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.callback_waiting.clear()
        try:
            yield
        finally:
            self._lock.release()
