"""What was subscribed to at run time, on a compacted Kafka topic that every worker reads."""

from __future__ import annotations

import logging
import time

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream_ad.errors import UnavailableError
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import SUBSCRIPTIONS_CONFIG, KafkaAdmin
from stream_ad_connectors.kafka.connection import kafka_error, python_options, quiet
from stream_ad_connectors.kafka.publisher import KafkaPublisher

__all__ = ["KafkaSubscriptions"]

log = logging.getLogger(__name__)


class KafkaSubscriptions:
    """ports.SubscriptionStore; the newest of each topic counts. One partition, so that all see one order.

    UnavailableError when the broker does not answer. From one thread at a time.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._place = TopicPartition(settings.subscriptions_topic, 0)
        self._admin = KafkaAdmin(settings)
        self._consumer: KafkaConsumer | None = None
        self._found: dict[str, bytes] = {}

    def all(self) -> dict[str, bytes]:
        """What there is now; nothing while the topic does not exist."""
        if self._consumer is None and self._place.topic not in self._admin.topics():
            return {}
        deadline = time.monotonic() + self._settings.request_timeout_s
        try:
            with quiet():
                consumer = self._connected()
                end = consumer.end_offsets([self._place])[self._place]
                while consumer.position(self._place) < end:
                    for record in consumer.poll(timeout_ms=200).get(self._place, ()):
                        self._take(record.key, record.value)
                    if time.monotonic() > deadline:
                        raise UnavailableError(f"the broker at {self._settings.bootstrap} stopped answering")
        except (KafkaError, OSError) as error:
            self._drop()
            raise kafka_error(error, self._settings, "reading the subscriptions of run time") from error
        return dict(self._found)

    def put(self, topic: str, how: bytes | None) -> None:
        """None = no longer. It is on all in-sync replicas when this returns."""
        if self._place.topic not in self._admin.topics():
            self._admin.create_topic(self._place.topic, 1, SUBSCRIPTIONS_CONFIG)
        publisher = KafkaPublisher(self._settings)
        try:
            publisher.send(self._place.topic, topic.encode(), how, partition=0)
            publisher.flush()
        finally:
            publisher.close()

    def topics(self) -> dict[str, int]:
        """Every topic of the broker and its partitions."""
        return self._admin.topics()

    def close(self) -> None:
        self._drop()
        self._admin.close()

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            consumer = KafkaConsumer(**python_options(self._settings), group_id=None, enable_auto_commit=False)
            consumer.assign([self._place])
            consumer.seek_to_beginning(self._place)
            self._consumer, self._found = consumer, {}
        return self._consumer

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        try:
            topic = (key or b"").decode()
        except UnicodeDecodeError:
            log.warning("a record of %s is passed over: its key is no text", self._place.topic)
            return
        if value:
            self._found[topic] = value
        else:
            self._found.pop(topic, None)

    def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
