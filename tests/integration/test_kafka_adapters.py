"""What the Kafka adapters promise beyond the contracts, against a real broker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import MemberToRemove
from kafka.partitioner.default import murmur2
from kafka.structs import OffsetAndMetadata
from stream_ad_connectors.kafka_admin import KafkaAdmin, ensure_topics
from stream_ad_connectors.kafka_publisher import KafkaPublisher
from stream_ad_connectors.kafka_sink import MAX_VALUE_BYTES, KafkaSink, alert_from_json
from stream_ad_connectors.kafka_source import KafkaSource
from stream_ad_connectors.kafka_state import KafkaStateStore

from stream_ad.errors import ConfigError, StreamAdError, UnavailableError
from stream_ad.ports import Checkpoint
from stream_ad.records import AlertState, DeadLetter, Outputs, SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from tests.contracts.check_source import Listener
from tests.contracts.sink_samples import SinkPromises, alert
from tests.services.kafka import KafkaServer

DOWN = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_s=1.0)
Letter = DeadLetter(SourceRecord(SourcePosition("t", 3, 42), 5_000_000, b"k", bytes(1_000_000)), "too_big", "1 MB")


@pytest.fixture
def settings(kafka: str, namespace: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka, namespace=namespace, group=namespace, session_timeout_s=6)


@pytest.fixture
def topic(settings: KafkaSettings, topic_names: Callable[[str], str]) -> str:
    """Four partitions with 100 records each: b"0" to b"99"."""
    name = topic_names("in")
    fill(settings, name, range(100))
    return name


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
    """Begins where the group committed, as the runtime does, and writes down what it was told."""

    def __init__(self, source: KafkaSource) -> None:
        super().__init__()
        self.source = source
        self.lost: list[bool] = []
        self.began: dict[tuple[str, int], int] = {}
        self.next: dict[tuple[str, int], int] = {}

    async def assigned(self, topic: str, partition: int) -> int | None:
        await super().assigned(topic, partition)
        found = await self.source.committed(topic, partition)
        self.began[topic, partition] = found.replay_from if found else 0
        self.next.pop((topic, partition), None)
        return found.replay_from if found else None

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


async def read_until(done: Callable[[], bool], *sources: tuple[KafkaSource, Tracker], wait_s: float = 20) -> None:
    deadline = time.monotonic() + wait_s
    while not done():
        assert time.monotonic() < deadline
        for source, tracker in sources:
            tracker.take(await source.poll(0.05))


async def test_two_sources_share_and_hand_over(settings: KafkaSettings, topic: str) -> None:
    """A second member joins, then leaves: each partition has one owner, goes on at replay_from, ends complete."""
    async with running(settings, topic) as first:
        await read_until(lambda: sum(first[1].next.values()) >= 120, first)
        await first[1].commit()
        async with running(settings, topic) as second:
            await read_until(lambda: len(first[1].partitions) == 2 and len(second[1].partitions) == 2, first, second)
            assert not set(first[1].partitions) & set(second[1].partitions)
            assert any(begin > 0 for begin in second[1].began.values())
            await read_until(
                lambda: all(one[1].next.get(place) == 100 for one in (first, second) for place in one[1].partitions),
                first,
                second,
            )
            await second[1].commit()
            await first[1].commit()
        await read_until(lambda: len(first[1].partitions) == 4 and set(first[1].next.values()) == {100}, first)
        assert set(first[1].began.values()) == {95}
        assert first[1].lost == [False, False]


async def test_a_refused_commit_is_lost_not_an_error(settings: KafkaSettings, topic: str, kafka: str) -> None:
    async with running(settings, topic) as pair:
        source, tracker = pair
        await read_until(lambda: len(tracker.next) == 4, pair)
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        members = admin.describe_groups([settings.group])[settings.group]["members"]
        admin.remove_group_members(settings.group, [MemberToRemove(member_id=members[0]["member_id"])])
        admin.close()
        await tracker.commit()
        assert await source.committed(topic, 0) is None
        await read_until(lambda: tracker.lost == [True] and set(tracker.next.values()) == {100}, pair)


async def test_foreign_commits_are_understood(settings: KafkaSettings, topic: str, kafka: str) -> None:
    source = KafkaSource(settings, [topic])
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    for metadata in ("", "replay_from=3", "{}", "[1]"):
        admin.alter_group_offsets(settings.group, {TopicPartition(topic, 0): OffsetAndMetadata(7, metadata, -1)})
        assert await source.committed(topic, 0) == Checkpoint(7, 7)
    admin.close()
    async with running(settings, topic) as pair:
        await read_until(lambda: pair[1].next.get((topic, 0), 0) > 7, pair)
    await source.stop()


async def test_a_listeners_error_reaches_the_poll(settings: KafkaSettings, topic: str) -> None:
    class Broken(Listener):
        async def assigned(self, topic: str, partition: int) -> int | None:
            raise StreamAdError("broken")

    source = KafkaSource(settings, [topic])
    await source.start(Broken())
    with pytest.raises(StreamAdError, match="broken"):
        await source.poll(10)
    await source.stop()


async def test_a_cancelled_poll_loses_nothing(settings: KafkaSettings, topic: str) -> None:
    async with running(settings, topic) as pair:
        source, tracker = pair
        deadline = time.monotonic() + 20
        while sum(tracker.next.values()) < 400:
            assert time.monotonic() < deadline
            poll = asyncio.ensure_future(source.poll(0.5))
            await asyncio.wait({poll}, timeout=0.002)
            poll.cancel()
            await asyncio.wait({poll})
            if not poll.cancelled():
                tracker.take(poll.result())


async def test_a_missing_topic_is_named(settings: KafkaSettings) -> None:
    source, state = KafkaSource(settings, ["no-such-topic"]), KafkaStateStore(settings)
    with pytest.raises(ConfigError, match=r"no-such-topic.*create"):
        await source.start(Listener())
    await source.stop()
    for work in (state.load("t", 0), state.save("t", 0, {"a": b""})):
        with pytest.raises(ConfigError, match=settings.state_topic):
            await work
    await state.close()
    sink, publisher = KafkaSink(settings), KafkaPublisher(settings)
    with pytest.raises(ConfigError, match=settings.dlq_topic):
        sink.write(Outputs(dead_letters=[Letter]))
    with pytest.raises(ConfigError, match="no-such-topic"):
        publisher.send("no-such-topic", b"", b"")
    sink.close()
    publisher.close()


async def test_no_broker_is_told_in_time_and_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    source, state, sink = KafkaSource(DOWN, ["t"]), KafkaStateStore(DOWN), KafkaSink(DOWN)
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=r"127.0.0.1:1.*kafka\.bootstrap"):
        await source.start(Listener())
    for work in (state.load("t", 0), state.save("t", 0, {"a": b""})):
        with pytest.raises(UnavailableError):
            await work
    with pytest.raises(UnavailableError):
        sink.write(Outputs(dead_letters=[Letter]))
    assert time.monotonic() - begun < 4 * DOWN.request_timeout_s + 2
    assert not caplog.records
    await source.stop()
    await state.close()
    sink.close()


def consume(settings: KafkaSettings, topic: str, count: int, wait_s: float = 10) -> list[object]:
    consumer = KafkaConsumer(topic, bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest")
    found: list[object] = []
    deadline = time.monotonic() + wait_s
    while len(found) < count and time.monotonic() < deadline:
        found.extend(record for batch in consumer.poll(timeout_ms=200).values() for record in batch)
    consumer.close()
    return found


def test_what_the_sink_writes(settings: KafkaSettings) -> None:
    ensure_topics(settings, [])
    sink = KafkaSink(settings)
    told = alert(SinkPromises(), "1", "Größe, 1", AlertState.OPEN, length=2)
    sink.write(Outputs(alerts=[told], dead_letters=[Letter]))
    sink.close()
    one: object
    (one,) = consume(settings, settings.alerts_topic, 1)
    assert (one.key, alert_from_json(one.value)) == ("Größe, 1".encode(), told)  # type: ignore[attr-defined]
    assert b'"start":"2025-01-01T00:00:00.123456789Z"' in one.value  # type: ignore[attr-defined]
    assert b'"severity":"critical"' in one.value  # type: ignore[attr-defined]
    (letter,) = consume(settings, settings.dlq_topic, 1)
    assert letter.value == bytes(MAX_VALUE_BYTES)  # type: ignore[attr-defined]
    assert dict(letter.headers) == {  # type: ignore[attr-defined]
        "source_topic": b"t",
        "source_partition": b"3",
        "source_offset": b"42",
        "source_timestamp_ms": b"5",
        "error_class": b"too_big",
        "error_text": b"1 MB",
        "original_size": b"1000000",
    }


def test_topics_are_ensured_once_by_many(settings: KafkaSettings, topic: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ensure_topics(settings, [topic]), range(4)))
    assert sorted(name for names in made for name in names) == sorted(
        [settings.alerts_topic, settings.dlq_topic, settings.state_topic]
    )
    admin = KafkaAdmin(settings)
    assert admin.partitions([settings.state_topic]) == {settings.state_topic: 4}
    wider = settings.model_copy(update={"state_partitions": 6})
    assert ensure_topics(wider, [topic]) == []
    assert admin.partitions([settings.state_topic]) == {settings.state_topic: 6}
    admin.close()


def test_lag(settings: KafkaSettings, topic: str) -> None:
    admin = KafkaAdmin(settings)
    assert {(one.partition, one.committed, one.lag) for one in admin.lag([topic])} == {(p, None, 100) for p in range(4)}
    admin.close()


@pytest.fixture(scope="module")
def own_broker() -> Iterator[KafkaServer]:
    """A broker whose log cleaner hurries."""
    with KafkaServer(properties={"log.cleaner.backoff.ms": "100", "log.segment.delete.delay.ms": "100"}) as server:
        yield server


async def test_state_survives_compaction(own_broker: KafkaServer, namespace: str) -> None:
    settings = KafkaSettings(bootstrap=own_broker.address, namespace=namespace)
    admin = KafkaAdmin(settings)
    quick = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01"}
    admin.create_topic(settings.state_topic, 1, quick)
    state = KafkaStateStore(settings)
    for version in range(30):
        await state.save("t", 0, {f"s{i}": b"%d" % version + bytes(2000) for i in range(100)})
    expected = {f"s{i}": b"29" + bytes(2000) for i in range(100)}
    deadline = time.monotonic() + 15
    while len(consume(settings, settings.state_topic, 3000, wait_s=1)) == 3000:
        assert time.monotonic() < deadline
        assert await state.load("t", 0) == expected
    assert await state.load("t", 0) == expected
    await state.close()
    admin.close()


async def test_the_broker_goes_and_comes_back(own_broker: KafkaServer, namespace: str) -> None:
    settings = KafkaSettings(
        bootstrap=own_broker.address, namespace=namespace, group=namespace, request_timeout_s=1, session_timeout_s=6
    )
    fill(settings, namespace, range(10), partitions=1)
    ensure_topics(settings, [namespace])
    sink, state = KafkaSink(settings), KafkaStateStore(settings)
    async with running(settings, namespace) as pair:
        await read_until(lambda: sum(pair[1].next.values()) == 10, pair)
        sink.write(Outputs(dead_letters=[Letter]))
        await state.save("t", 0, {"a": b"1"})
        own_broker.stop()
        assert await pair[0].poll(0.5) == []
        with pytest.raises(UnavailableError):
            await pair[1].commit()
        with pytest.raises(UnavailableError):
            await asyncio.to_thread(sink.write, Outputs(dead_letters=[Letter]))
        with pytest.raises(UnavailableError):
            await state.save("t", 0, {"a": b"2"})
        own_broker.start()
        fill(settings, namespace, range(10, 20), partitions=1)
        await read_until(lambda: sum(pair[1].next.values()) >= 20, pair)
        await pair[1].commit()
        sink.write(Outputs(dead_letters=[Letter]))
        await state.save("t", 0, {"a": b"3"})
        assert await state.load("t", 0) == {"a": b"3"}
    await state.close()
    sink.close()
