"""Where records come from, how far reading is, and what people subscribe to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stream_ad.records import Observation, SourceRecord

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

    next_offset: the offset to commit, the first record whose outputs are not durable yet. replay_offset <= next_offset:
    where a restart must start reading to rebuild its window buffers. metadata: the committer's own text, at most 3,800
    bytes of UTF-8 (Kafka's limit is 4,096).
    """

    next_offset: int
    replay_offset: int
    metadata: str = ""


class AssignmentListener(Protocol):
    """Told by a source, between polls, which partitions come and go."""

    async def assigned(self, topic: str, partition: int) -> int | None:
        """Called before the first record of the partition. Reading begins at the returned offset; None = where the
        source would begin by itself."""
        ...

    async def revoked(self, partitions: Sequence[tuple[str, int]], *, lost: bool) -> None:
        """`lost` = another consumer may own them already: write nothing more."""
        ...


@runtime_checkable
class Source(Protocol):
    """Records in the order of each partition."""

    async def start(self, listener: AssignmentListener) -> None: ...

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        """The next records, empty when none came within timeout_s (a live source), None when there will be no more."""
        ...

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None: ...

    async def owns_partitions(self) -> bool:
        """False = another consumer may own what was assigned here: write nothing more, the next `poll` tells. Asked
        before each write. UnavailableError = not to be known now."""
        ...

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        """What `commit` last stored; None = never, or a source that cannot be read again."""
        ...

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """Where reading stands in a partition: `position` is the next record to read, `end` the one after the newest."""

    position: int
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - self.position)


@runtime_checkable
class LagReader(Protocol):
    """A source that knows how much there is to read; asked beside the polls, on their event loop."""

    async def lags(self) -> Mapping[tuple[str, int], PartitionLag] | None:
        """Of the partitions that are ours; None while they are being shared out. UnavailableError = no answer."""
        ...


@runtime_checkable
class TopicReader(Protocol):
    """A source whose topics can change while it is read; asked between polls, on their event loop."""

    async def subscribe(self, topics: Sequence[str]) -> None:
        """From now on these (at least one); the listener is told what goes and what comes, within the next polls.
        UnavailableError = nothing changed, ask again."""
        ...


class SubscriptionStore(Protocol):
    """What people subscribe to while workers run: topic or pattern -> how it is read, as they wrote it."""

    def all(self) -> dict[str, bytes]: ...

    def put(self, topic: str, how: bytes | None) -> None:
        """None = no longer. Durable when it returns."""
        ...

    def topics(self) -> dict[str, int]:
        """Every topic there is, and its partitions."""
        ...

    def close(self) -> None: ...


class StateStore(Protocol):
    """The small state of each series, kept beside the log it belongs to."""

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        """Series -> newest state saved for it."""
        ...

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        """Durable when it returns."""
        ...

    async def stop(self) -> None:
        """Gives back what it holds; the last call."""
        ...


class PushSource(Source, Protocol):
    """A source that is fed within this process."""

    def publish(self, record: bytes | Observation, *, key: str | None = None, timeout_s: float | None = None) -> None:
        """From any thread. UnavailableError = closed, or still full after timeout_s (None = wait as long as it
        takes)."""
        ...

    def close(self) -> None:
        """No more records: `poll` returns None once it is empty."""
        ...


class RecordTail(Protocol):
    """A reader of topics outside any group; nothing is committed."""

    def last(self, count: int, timeout_s: float) -> list[SourceRecord]:
        """At most `count` of the newest records of each partition, as far as they come within timeout_s."""
        ...

    def follow(self) -> Iterator[SourceRecord]:
        """New records from now on, until `end`."""
        ...

    def end(self) -> None:
        """Ends `follow`. Thread-safe."""
        ...

    def close(self) -> None: ...


class BrokerAdmin(Protocol):
    """What the command line asks of a broker."""

    def check(self) -> str:
        """One line on the cluster. UnavailableError = no answer within the request time-out."""
        ...

    def topics(self) -> dict[str, int]:
        """Topic -> number of partitions, internal topics left out."""
        ...

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Topic -> number of partitions. ConfigError names the first topic that does not exist."""
        ...

    def create_topic(self, topic: str, partitions: int) -> bool:
        """False when the topic exists already."""
        ...

    def close(self) -> None: ...
