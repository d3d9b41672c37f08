"""A fast producer for replay, the SDK and tests."""

from __future__ import annotations

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream_ad.errors import ConfigError
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import abandon, kafka_error, muted_client_logs, python_options, timeout_ms
from stream_ad_connectors.kafka.security import probe_broker

__all__ = ["KafkaPublisher"]

_DELIVERIES = 3  # request time-outs until the delivery of a record fails
_FLUSHES = 4  # request time-outs of `flush`: kafka-python does not always notice an expired record


class KafkaPublisher:
    """A producer for `replay` and the SDK that batches and lingers; it partitions by key (murmur2, as Java does).

    `send` may block when the broker is slower than the caller. The next `send`, or `flush`, raises a failure; `flush`
    returns when everything sent so far is acknowledged.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._topics: dict[str, int] = {}  # topic -> number of partitions
        self._producer: KafkaProducer | None = None
        self._failed: BaseException | None = None

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None = None,
        *,
        partition: int | None = None,
    ) -> None:
        """ConfigError when the topic or the partition does not exist; UnavailableError when the broker does not answer.

        partition: None = chosen by the key.
        """
        self._check()
        try:
            producer = self._connected(topic)
            if partition is not None and partition >= self._topics[topic]:
                raise ConfigError(
                    f"topic {topic!r}: expected a partition below {self._topics[topic]}, found {partition}"
                )
            sent = producer.send(topic, key=key, value=value, timestamp_ms=timestamp_ms, partition=partition)
            sent.add_errback(self._keep)
        except (KafkaError, OSError) as error:
            raise kafka_error(error, self._settings, f"publishing to {topic!r}") from error

    def flush(self) -> None:
        if self._producer is not None:
            try:
                self._producer.flush(timeout=_FLUSHES * self._settings.request_timeout_s)
            except KafkaError as error:
                self._drop()
                raise kafka_error(error, self._settings, "publishing") from error
        self._check()

    def close(self) -> None:
        """Flushes first."""
        try:
            self.flush()
        finally:
            self._drop()
            self._admin.close()

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            abandon(producer)
            self._failed = None  # the caller has raised the failure already

    def _connected(self, topic: str) -> KafkaProducer:
        if topic not in self._topics:
            self._topics |= self._admin.partitions([topic])
        if self._producer is None:
            with muted_client_logs():
                probe_broker(self._settings)
                self._producer = KafkaProducer(**_publisher_options(self._settings))
        return self._producer

    def _keep(self, error: BaseException) -> None:
        self._failed = self._failed or error

    def _check(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise kafka_error(failed, self._settings, "publishing") from failed


def _publisher_options(settings: KafkaSettings) -> dict[str, Any]:
    return python_options(settings) | {
        "acks": "all",
        "batch_size": 256 * 1024,
        "linger_ms": 20,
        "max_block_ms": timeout_ms(settings),
        "delivery_timeout_ms": _DELIVERIES * timeout_ms(settings),
    }
