"""Runtime subscriptions on a compacted Kafka topic that every worker reads."""

from __future__ import annotations

import logging

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import SUBSCRIPTIONS_CONFIG, KafkaAdmin
from stream_ad_connectors.kafka.connection import kafka_error, muted_client_logs
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.records import groupless_consumer, read_to_end

__all__ = ["KafkaSubscriptions"]

log = logging.getLogger(__name__)


class KafkaSubscriptions:
    """ports.SubscriptionStore; the newest record of each key counts. One partition, so that all see one order.

    UnavailableError when the broker does not answer. Not thread-safe.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._partition = TopicPartition(settings.subscriptions_topic, 0)
        self._admin = KafkaAdmin(settings)
        self._consumer: KafkaConsumer | None = None
        self._found: dict[str, bytes] = {}

    def all(self) -> dict[str, bytes]:
        """The subscriptions of now; empty while the topic does not exist."""
        if self._consumer is None and self._partition.topic not in self._admin.topics():
            return {}
        try:
            with muted_client_logs():
                consumer = self._connected()
                ends = consumer.end_offsets([self._partition])
                for record in read_to_end(consumer, ends, timeout_s=self._settings.request_timeout_s, in_all=True):
                    self._apply(record.key, record.value)
        except (KafkaError, OSError) as error:
            self._drop()
            raise kafka_error(error, self._settings, "reading the runtime subscriptions") from error
        return dict(self._found)

    def put(self, topic: str, how: bytes | None) -> None:
        """None deletes. Acknowledged by all in-sync replicas when it returns."""
        if self._partition.topic not in self._admin.topics():
            self._admin.create_topic(self._partition.topic, 1, SUBSCRIPTIONS_CONFIG)
        publisher = KafkaPublisher(self._settings)
        try:
            publisher.send(self._partition.topic, topic.encode(), how, partition=0)
            publisher.flush()
        finally:
            publisher.close()

    def topics(self) -> dict[str, int]:
        """Every topic of the broker -> its number of partitions."""
        return self._admin.topics()

    def close(self) -> None:
        self._drop()
        self._admin.close()

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            consumer = groupless_consumer(self._settings, [self._partition])
            consumer.seek_to_beginning(self._partition)
            self._consumer, self._found = consumer, {}
        return self._consumer

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        try:
            topic = (key or b"").decode()
        except UnicodeDecodeError:
            log.warning("a record of %s is skipped: its key is not UTF-8", self._partition.topic)
            return
        if value:
            self._found[topic] = value
        else:
            self._found.pop(topic, None)

    def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
