"""Guarantees of the Kafka adapters beyond the contracts, on a real broker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import MemberToRemove
from kafka.structs import OffsetAndMetadata
from stream_ad_connectors.kafka.admin import KafkaAdmin, ensure_topics
from stream_ad_connectors.kafka.dead_letters import MAX_VALUE_BYTES
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.sink import KafkaSink
from stream_ad_connectors.kafka.source import KafkaSource
from stream_ad_connectors.kafka.state_store import KafkaStateStore

from stream_ad.errors import ConfigError, StreamAdError, UnavailableError
from stream_ad.ports import Checkpoint
from stream_ad.records import AlertState, Outputs
from stream_ad.serde.alerts import alert_from_json
from stream_ad.settings import KafkaSettings
from tests.contracts.check_source import Listener
from tests.support.kafka_helpers import DEAD_LETTER, consume, fill, read_until, running
from tests.support.sink_samples import SinkPromises, alert

DOWN = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_s=1.0)


@pytest.fixture
def settings(kafka: str, namespace: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka, namespace=namespace, group=namespace, session_timeout_s=6)


@pytest.fixture
def topic(settings: KafkaSettings, topic_names: Callable[[str], str]) -> str:
    """Four partitions with 100 records each: b"0" to b"99"."""
    name = topic_names("in")
    fill(settings, name, range(100))
    return name


async def test_two_sources_share_partitions_and_take_over(settings: KafkaSettings, topic: str) -> None:
    """A second member joins, then leaves: partitions have one owner, resume at replay_offset, are read to the end."""
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


async def test_a_refused_commit_is_lost_and_raises_nothing(settings: KafkaSettings, topic: str, kafka: str) -> None:
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


async def test_a_frozen_member_is_fenced_before_it_writes(settings: KafkaSettings, topic: str) -> None:
    async with running(settings.model_copy(update={"session_timeout_s": 2.0}), topic) as pair:
        source, tracker = pair
        await read_until(lambda: len(tracker.next) == 4, pair)
        assert await source.owns_partitions()
        time.sleep(4.5)  # the whole process stands still, for longer than its session
        assert not await source.owns_partitions()
        await tracker.commit()  # refused, and no error
        await read_until(lambda: tracker.lost == [True] and set(tracker.next.values()) == {100}, pair)
        assert await source.owns_partitions()


async def test_waiting_long_for_a_store_costs_no_membership(settings: KafkaSettings, topic: str) -> None:
    async with running(settings, topic) as pair:
        source, tracker = pair
        await read_until(lambda: len(tracker.next) == 4, pair)
        subscription: Any = source._consumer._subscription
        subscription._last_fetch_ended -= 3600  # as if nobody had polled for an hour
        await asyncio.sleep(5)  # a heartbeat is due every 3 s
        assert await source.owns_partitions()
        await read_until(lambda: set(tracker.next.values()) == {100}, pair)
        assert tracker.lost == []


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
        deadline = time.monotonic() + 240
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
    await state.stop()
    sink, publisher = KafkaSink(settings), KafkaPublisher(settings)
    with pytest.raises(ConfigError, match=settings.dlq_topic):
        sink.write(Outputs(dead_letters=[DEAD_LETTER]))
    with pytest.raises(ConfigError, match="no-such-topic"):
        publisher.send("no-such-topic", b"", b"")
    sink.close()
    publisher.close()


async def test_a_missing_broker_is_reported_in_time_and_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    source, state, sink = KafkaSource(DOWN, ["t"]), KafkaStateStore(DOWN), KafkaSink(DOWN)
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=r"127.0.0.1:1.*kafka\.bootstrap"):
        await source.start(Listener())
    for work in (state.load("t", 0), state.save("t", 0, {"a": b""})):
        with pytest.raises(UnavailableError):
            await work
    with pytest.raises(UnavailableError):
        sink.write(Outputs(dead_letters=[DEAD_LETTER]))
    assert time.monotonic() - begun < 4 * DOWN.request_timeout_s + 30
    assert not caplog.records
    await source.stop()
    await state.stop()
    sink.close()


def test_what_the_sink_writes(settings: KafkaSettings) -> None:
    ensure_topics(settings, [])
    sink = KafkaSink(settings)
    one_alert = alert(SinkPromises(), "1", "Größe, 1", AlertState.OPEN, length=2)
    sink.write(Outputs(alerts=[one_alert], dead_letters=[DEAD_LETTER]))
    sink.close()
    one: object
    (one,) = consume(settings, settings.alerts_topic, 1)
    assert (one.key, alert_from_json(one.value)) == ("Größe, 1".encode(), one_alert)  # type: ignore[attr-defined]
    assert b'"start":"2025-01-01T00:00:00.123456789Z"' in one.value  # type: ignore[attr-defined]
    assert b'"severity":"critical"' in one.value  # type: ignore[attr-defined]
    (dead,) = consume(settings, settings.dlq_topic, 1)
    assert dead.value == bytes(MAX_VALUE_BYTES)  # type: ignore[attr-defined]
    assert dict(dead.headers) == {  # type: ignore[attr-defined]
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
        [settings.alerts_topic, settings.dlq_topic, settings.state_topic, settings.subscriptions_topic]
    )
    admin = KafkaAdmin(settings)
    assert admin.partitions([settings.state_topic]) == {settings.state_topic: 4}
    wider = settings.model_copy(update={"state_partitions": 6})
    with ThreadPoolExecutor(4) as pool:  # workers that learn of a wider topic at the same time
        assert list(pool.map(lambda _: ensure_topics(wider, [topic]), range(4))) == [[]] * 4
    assert admin.partitions([settings.state_topic]) == {settings.state_topic: 6}
    admin.close()


def test_lag(settings: KafkaSettings, topic: str) -> None:
    admin = KafkaAdmin(settings)
    assert {(one.partition, one.committed, one.lag) for one in admin.lag([topic])} == {(p, None, 100) for p in range(4)}
    admin.close()
