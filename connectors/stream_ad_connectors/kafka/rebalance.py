"""Lets a consumer's rebalance callbacks in between two polls, and at no other time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

__all__ = ["AdaptiveBatchSize", "RebalanceGate", "SingleActiveAssignor"]


FIRST, LEAST = 200, 50  # a record may be a block of 1,000 rows: few at first, twice as many with every quick poll


class AdaptiveBatchSize:
    """Holds the time that a caller works between two polls near `target_s`.

    A rebalance waits for every member's next poll, and goes on without a member that takes too long: on a slow machine
    with much to catch up, workers that read too much at once would take the partitions from one another for ever, none
    of them getting as far as a commit.
    """

    def __init__(self, most: int, target_s: float = 2.0) -> None:
        self._most = most
        self._target_s = target_s
        self._handed = 0
        self._handed_s = 0.0
        self.limit = min(most, FIRST)

    def handed(self, count: int, now_s: float) -> None:
        """Records were handed out."""
        self._handed, self._handed_s = count, now_s

    def asked(self, now_s: float) -> None:
        """The caller is back for more: fewer if it took long (a store that was away counts too, it is soon made up
        for), twice as many if it had all it may have and was quick."""
        took_s = now_s - self._handed_s
        if self._handed and took_s > self._target_s:
            self.limit = max(min(LEAST, self._most), int(self._handed * self._target_s / took_s))
        elif self._handed >= self.limit and took_s < self._target_s / 2:
            self.limit = min(self._most, 2 * self.limit)
        self._handed = 0


class SingleActiveAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """The first member by its id. Trap: ids are drawn at random, so a member that joins may be the new first."""

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
        """Nothing to remember."""


class RebalanceGate:
    """The poller holds it while its caller works and while it fetches; callbacks take turns in `hold`.

    `wanted` is set while a callback waits. Create it inside the event loop that uses it.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._held = False
        self._waiting = 0

    async def hold(self) -> None:
        """Let every waiting callback pass (the lock is first come, first served), then hold."""
        self.free()
        await self._lock.acquire()
        self._held = True

    def free(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A callback's turn."""
        self._waiting += 1
        self.wanted.set()
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.wanted.clear()
        try:
            yield
        finally:
            self._lock.release()
