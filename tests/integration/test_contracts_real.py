"""The contracts over a real Kafka and a real InfluxDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from stream_ad_connectors.influxdb.store import InfluxStore
from stream_ad_connectors.kafka.admin import KafkaAdmin, ensure_topics
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.sink import KafkaSink
from stream_ad_connectors.kafka.source import KafkaSource
from stream_ad_connectors.kafka.state_store import KafkaStateStore

from stream_ad.records import AlertState, Outputs
from stream_ad.settings import InfluxSettings, KafkaSettings, Settings
from tests.contracts.check_sink import SINK_CHECKS, SinkCheck, SinkPromises, SinkUnderTest
from tests.contracts.check_source import SOURCE_CHECKS, SourceUnderTest
from tests.contracts.check_state_store import STATE_STORE_CHECKS, StateStoreUnderTest
from tests.support.services.influxdb import Influx, create_bucket, delete_bucket
from tests.support.sink_samples import alert

# Distinguishes episodes of one rule and start by their ids; InfluxDB does so by series, rule and start, see below.
BY_ID = "two_alerts_of_one_start_stay_two"


@pytest.fixture(scope="module")
def shared_bucket(influx: Influx) -> Iterator[Influx]:
    store = create_bucket(influx, "contracts")
    yield store
    delete_bucket(store)


def influx_settings(store: Influx) -> Settings:
    return Settings(influxdb=InfluxSettings(url=store.url, org=store.org, bucket=store.bucket, token=store.token))


@pytest.mark.parametrize("check", [c for c in SINK_CHECKS if c.__name__ != BY_ID], ids=lambda check: check.__name__)
def test_influx_sink(check: SinkCheck, shared_bucket: Influx, namespace: str) -> None:
    store = InfluxStore(influx_settings(shared_bucket))
    target = SinkUnderTest(store, store.reader, store.reader, store.reader)
    check(target, SinkPromises(prefix=namespace, keeps_newer=False))
    store.close()


def test_influx_keeps_two_alerts_of_one_start(shared_bucket: Influx, namespace: str) -> None:
    store = InfluxStore(influx_settings(shared_bucket))
    promises = SinkPromises(prefix=namespace)
    one = alert(promises, "1", namespace, AlertState.OPEN)
    two = replace(one, id="2", rule="other")
    store.write(Outputs(alerts=[one, two]))
    assert store.reader.alerts(namespace, 0, 2**62) == sorted([one, two], key=lambda a: a.id)
    store.close()


@pytest.mark.parametrize("check", SINK_CHECKS, ids=lambda check: check.__name__)
def test_kafka_sink(check: SinkCheck, kafka_sink_settings: KafkaSettings, namespace: str) -> None:
    sink = KafkaSink(kafka_sink_settings)
    check(SinkUnderTest(sink), SinkPromises(prefix=namespace))
    sink.close()


@pytest.fixture(scope="module")
def kafka_sink_settings(kafka: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=kafka, namespace="contracts-sink")
    ensure_topics(settings, [])
    return settings


@pytest.mark.parametrize("check", SOURCE_CHECKS, ids=lambda check: check.__name__)
async def test_kafka_source(
    check: Callable[..., object], kafka: str, namespace: str, topic_names: Callable[[str], str]
) -> None:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, group=namespace)
    topics = [topic_names("one"), topic_names("two")]
    expected: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
    admin, publisher = KafkaAdmin(settings), KafkaPublisher(settings)
    for topic, partitions in zip(topics, (1, 2), strict=True):
        admin.create_topic(topic, partitions)
        expected |= {(topic, partition): [] for partition in range(partitions)}
    for number in range(50):
        publisher.send(topics[0], b"key", str(number).encode())
        expected[topics[0], 0].append((b"key", str(number).encode()))
    publisher.send(topics[0], b"", None)
    publisher.send(topics[0], None, b"")
    expected[topics[0], 0] += [(b"", None), (None, b"")]
    publisher.close()
    admin.close()
    await check(  # type: ignore[misc]
        SourceUnderTest(
            lambda: KafkaSource(settings, topics),
            expected,
            live=True,
            seeks=True,
            commits=True,
            remembers=True,
            wait_s=240,
        )
    )


@pytest.mark.parametrize("check", STATE_STORE_CHECKS, ids=lambda check: check.__name__)
async def test_kafka_state_store(check: Callable[..., object], kafka: str, namespace: str) -> None:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, state_partitions=2)
    ensure_topics(settings, [])
    await check(  # type: ignore[misc]
        StateStoreUnderTest(lambda: KafkaStateStore(settings), lambda store: store.stop())  # type: ignore[attr-defined]
    )
