"""Kafka adapters while the broker compacts, stops and restarts: a broker for these tests alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest
from stream_ad_connectors.kafka.admin import KafkaAdmin, ensure_topics
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.sink import KafkaSink
from stream_ad_connectors.kafka.state_store import KafkaStateStore

from stream_ad.errors import UnavailableError
from stream_ad.records import Outputs
from stream_ad.settings import KafkaSettings
from tests.support.kafka_helpers import DEAD_LETTER, consume, fill, read_until, running
from tests.support.services.kafka import KafkaServer
from tests.support.services.process import wait_until

T = TypeVar("T")


@pytest.fixture(scope="module")
def own_broker() -> Iterator[KafkaServer]:
    """A broker whose log cleaner runs every 100 ms."""
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
    deadline = time.monotonic() + 240
    while len(consume(settings, settings.state_topic, 3000, wait_s=1)) == 3000:
        assert time.monotonic() < deadline
        assert await state.load("t", 0) == expected
    assert await state.load("t", 0) == expected
    await state.stop()
    admin.close()


async def again(action: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
    """As the runtime does: UnavailableError means retry. A broker that has just restarted needs a while."""
    deadline = time.monotonic() + 240
    while True:
        try:
            return await action(*args, **kwargs)
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def test_adapters_survive_a_broker_restart(own_broker: KafkaServer, namespace: str) -> None:
    settings = KafkaSettings(
        bootstrap=own_broker.address, namespace=namespace, group=namespace, request_timeout_s=1, session_timeout_s=6
    )
    fill(settings, namespace, range(10), partitions=1)
    ensure_topics(settings, [namespace])
    sink, state = KafkaSink(settings), KafkaStateStore(settings)
    async with running(settings, namespace) as pair:
        await read_until(lambda: sum(pair[1].next.values()) == 10, pair)
        sink.write(Outputs(dead_letters=[DEAD_LETTER]))
        await state.save("t", 0, {"a": b"1"})
        own_broker.stop()
        assert await pair[0].poll(0.5) == []
        with pytest.raises(UnavailableError):
            await pair[1].commit()
        with pytest.raises(UnavailableError):
            await asyncio.to_thread(sink.write, Outputs(dead_letters=[DEAD_LETTER]))
        with pytest.raises(UnavailableError):
            await state.save("t", 0, {"a": b"2"})
        own_broker.start()
        await again(asyncio.to_thread, fill, settings, namespace, range(10, 20), partitions=1)
        await read_until(lambda: sum(pair[1].next.values()) >= 20, pair)
        await again(pair[1].commit)
        await again(asyncio.to_thread, sink.write, Outputs(dead_letters=[DEAD_LETTER]))
        await again(state.save, "t", 0, {"a": b"3"})
        assert await again(state.load, "t", 0) == {"a": b"3"}
    await state.stop()
    sink.close()


def test_abandoned_producers_leave_no_threads(own_broker: KafkaServer, namespace: str) -> None:
    settings = KafkaSettings(bootstrap=own_broker.address, namespace=namespace, request_timeout_s=1)
    fill(settings, namespace, range(1), partitions=1)
    ensure_topics(settings, [namespace])
    sink, publisher = KafkaSink(settings), KafkaPublisher(settings)
    threads = threading.active_count()
    for _ in range(2):
        until_accepted(partial(sink.write, Outputs(dead_letters=[DEAD_LETTER])))
        until_accepted(partial(publish, publisher, namespace))
        own_broker.pause()
        with pytest.raises(UnavailableError):
            sink.write(Outputs(dead_letters=[DEAD_LETTER]))
        with pytest.raises(UnavailableError):
            publish(publisher, namespace)
        own_broker.resume()
    sink.close()
    publisher.close()
    assert wait_until(lambda: threading.active_count() <= threads), threading.enumerate()


def publish(publisher: KafkaPublisher, topic: str) -> None:
    publisher.send(topic, b"k", b"v")
    publisher.flush()


def until_accepted(action: Callable[[], None]) -> None:
    """Clients treat a broker that was frozen as down for a while."""

    def accepted() -> bool:
        try:
            action()
        except UnavailableError:
            return False
        return True

    assert wait_until(accepted, every_s=0.2)
