"""Contracts of inputs: sources, progress of partitions, series states, subscriptions, broker administration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stream_ad.records import Observation, Partition, SourceRecord

__all__ = [
    "AssignmentListener",
    "BrokerAdmin",
    "Checkpoint",
    "LagReader",
    "PartitionLag",
    "PushSource",
    "RecordTail",
    "Source",
    "StateStore",
    "SubscriptionStore",
    "TopicReader",
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Progress of one partition.

    next_offset: the offset to commit, i.e. the first record whose outputs are not durable yet. replay_offset <=
    next_offset: where a restart must start reading to rebuild its window buffers. metadata: the committer's own text,
    at most 3,800 bytes of UTF-8 (Kafka's limit is 4,096).
    """

    next_offset: int
    replay_offset: int
    metadata: str = ""


class AssignmentListener(Protocol):
    """Receives the partition assignments of a source. The source calls it between polls, never while the caller still
    processes the records of the last one."""

    async def assigned(self, topic: str, partition: int) -> int | None:
        """Called before the first record of the partition. Returns the offset to read from; None = the source's own
        start position."""
        ...

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        """lost: another consumer may own them already, so the listener must write nothing more of them."""
        ...


@runtime_checkable
class Source(Protocol):
    """Delivers the records of the assigned partitions, those of each partition in offset order."""

    async def start(self, listener: AssignmentListener) -> None: ...

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        """The next records: empty when none arrived within timeout_s (a live source), None at the end of the stream."""
        ...

    async def commit(self, checkpoints: Mapping[Partition, Checkpoint]) -> None: ...

    async def owns_partitions(self) -> bool:
        """Fencing check before each write: False when the group may have reassigned our partitions; the caller must
        drop what is in flight and wait for `revoked(lost=True)`. UnavailableError = ownership cannot be determined
        now."""
        ...

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        """The checkpoint that `commit` last stored; None = there is none, or the source cannot be replayed."""
        ...

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Consumer lag of one partition. position: offset of the next record to read; end: the log-end offset."""

    position: int
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - self.position)


@runtime_checkable
class LagReader(Protocol):
    """A source that can report its consumer lag. Called between polls, on the event loop of the polls."""

    async def lags(self) -> Mapping[Partition, PartitionLag] | None:
        """The lag of each assigned partition; None during a rebalance. UnavailableError = the broker did not answer."""
        ...


@runtime_checkable
class TopicReader(Protocol):
    """A source whose topics can change while it runs. Called between polls, on the event loop of the polls."""

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Replaces the subscription by these topics, at least one; the next polls call the listener for the partitions
        that are revoked and assigned. UnavailableError = nothing changed, the caller retries."""
        ...


class SubscriptionStore(Protocol):
    """Runtime subscriptions: topic or pattern -> the subscription's settings, as the user wrote them."""

    def all(self) -> dict[str, bytes]: ...

    def put(self, topic: str, how: bytes | None) -> None:
        """Durable when it returns. how: the settings; None deletes the subscription."""
        ...

    def topics(self) -> dict[str, int]:
        """Every existing topic -> its number of partitions."""
        ...

    def close(self) -> None: ...


class StateStore(Protocol):
    """Keeps the snapshot of each series next to the partition that it belongs to."""

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        """Series -> its newest saved state."""
        ...

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        """Durable when it returns."""
        ...

    async def stop(self) -> None:
        """Releases all resources; the last call."""
        ...


class PushSource(Source, Protocol):
    """A source that this process itself feeds."""

    def publish(self, record: bytes | Observation, *, key: str | None = None, timeout_s: float | None = None) -> None:
        """Thread-safe. UnavailableError = the source is closed, or still full after timeout_s (None = no limit)."""
        ...

    def close(self) -> None:
        """Ends the stream: `poll` returns None once all published records are read."""
        ...


class RecordTail(Protocol):
    """Reads topics without a consumer group; nothing is committed."""

    def last(self, count: int, timeout_s: float) -> list[SourceRecord]:
        """The newest `count` records of each partition at most, as many as arrive within timeout_s."""
        ...

    def follow(self) -> Iterator[SourceRecord]:
        """The records that arrive from now on, until `end` is called."""
        ...

    def end(self) -> None:
        """Ends `follow`. Thread-safe."""
        ...

    def close(self) -> None: ...


class BrokerAdmin(Protocol):
    """Administration of a broker for the command line."""

    def check(self) -> str:
        """One line that describes the cluster. UnavailableError = no answer within the request time-out."""
        ...

    def topics(self) -> dict[str, int]:
        """Topic -> number of partitions, without internal topics."""
        ...

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Topic -> number of partitions. ConfigError names the first topic that does not exist."""
        ...

    def create_topic(self, topic: str, partitions: int) -> bool:
        """False when the topic already exists."""
        ...

    def close(self) -> None: ...
