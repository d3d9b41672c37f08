"""Topics with known contents, and a listener that behaves as the runtime does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from kafka import KafkaConsumer
from kafka.partitioner.default import murmur2
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.source import KafkaSource

from stream_ad.ports import Checkpoint
from stream_ad.records import DeadLetter, SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from tests.contracts.check_source import Listener
from tests.support.services.process import PATIENCE_S

DEAD_LETTER = DeadLetter(SourceRecord(SourcePosition("t", 3, 42), 5_000_000, b"k", bytes(1_000_000)), "too_big", "1 MB")


def fill(settings: KafkaSettings, topic: str, values: Sequence[int], partitions: int = 4) -> None:
    admin, publisher = KafkaAdmin(settings), KafkaPublisher(settings)
    admin.create_topic(topic, partitions)
    keys = {p: next(k for k in map(str, range(1000)) if where(k, partitions) == p) for p in range(partitions)}
    for value in values:
        for key in keys.values():
            publisher.send(topic, key.encode(), str(value).encode(), timestamp_ms=1_000 + value)
    publisher.close()
    admin.close()


def where(key: str, partitions: int) -> int:
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


class Tracker(Listener):
    """Begins at the group's committed offsets, as the runtime does, and records its calls."""

    def __init__(self, source: KafkaSource) -> None:
        super().__init__()
        self.source = source
        self.lost: list[bool] = []
        self.began: dict[tuple[str, int], int] = {}
        self.next: dict[tuple[str, int], int] = {}

    async def assigned(self, topic: str, partition: int) -> int | None:
        await super().assigned(topic, partition)
        found = await self.source.committed(topic, partition)
        self.began[topic, partition] = found.replay_offset if found else 0
        self.next.pop((topic, partition), None)
        return found.replay_offset if found else None

    async def revoked(self, partitions: Sequence[tuple[str, int]], *, lost: bool) -> None:
        await super().revoked(partitions, lost=lost)
        self.lost.append(lost)
        if not lost:
            await self.commit()

    async def commit(self) -> None:
        await self.source.commit({place: Checkpoint(n, max(0, n - 5)) for place, n in self.next.items()})

    def take(self, records: Sequence[SourceRecord] | None) -> Sequence[SourceRecord]:
        """Every record follows the one before, from where the listener said."""
        for record in records or ():
            place = (record.position.topic, record.position.partition)
            assert place in self.partitions
            assert record.position.offset == self.next.get(place, self.began[place])
            self.next[place] = record.position.offset + 1
        return records or ()


@asynccontextmanager
async def running(settings: KafkaSettings, topic: str) -> AsyncIterator[tuple[KafkaSource, Tracker]]:
    source = KafkaSource(settings, [topic], max_records=20)
    tracker = Tracker(source)
    await source.start(tracker)
    try:
        yield source, tracker
    finally:
        await source.stop()


async def read_until(done: Callable[[], bool], *sources: tuple[KafkaSource, Tracker]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        for source, tracker in sources:
            tracker.take(await source.poll(0.05))


def consume(settings: KafkaSettings, topic: str, count: int, wait_s: float = PATIENCE_S) -> list[object]:
    consumer = KafkaConsumer(topic, bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest")
    found: list[object] = []
    deadline = time.monotonic() + wait_s
    while len(found) < count and time.monotonic() < deadline:
        found.extend(record for batch in consumer.poll(timeout_ms=200).values() for record in batch)
    consumer.close()
    return found
