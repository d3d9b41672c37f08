"""Alerts and dead-letter records to Kafka, with kafka-python's idempotent producer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream_ad.records import Alert, DeadLetter, Outputs
from stream_ad.serde.alerts import alert_to_json
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import abandon, kafka_error, muted_client_logs, python_options, timeout_ms
from stream_ad_connectors.kafka.dead_letters import MAX_KEY_BYTES, MAX_VALUE_BYTES, dead_letter_headers
from stream_ad_connectors.kafka.security import probe_broker

__all__ = ["KafkaSink"]


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class KafkaSink:
    """Sink for `outputs.alerts` (key = series) and `outputs.dead_letters` (key and value of the source record, or cut).

    It ignores scores and statuses, which belong in the store. `write` returns when all in-sync replicas have
    acknowledged every record. Trap: after a time-out the broker may have part of them, so a retry duplicates those
    (an alert's id and a dead letter's source offset identify duplicates); the producer is discarded then, or its
    buffer would fill with one copy per attempt.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._producer: KafkaProducer | None = None

    def write(self, outputs: Outputs) -> None:
        messages = [*self._alerts(outputs.alerts), *self._dead_letters(outputs.dead_letters)]
        if messages:
            self._send(messages)

    def close(self) -> None:
        """Loses nothing: no record is pending between two writes."""
        self._drop()
        self._admin.close()

    def _alerts(self, alerts: Iterable[Alert]) -> Iterable[_Message]:
        for alert in alerts:
            yield _Message(self._settings.alerts_topic, alert.series.encode(), alert_to_json(alert), [])

    def _dead_letters(self, dead_letters: Iterable[DeadLetter]) -> Iterable[_Message]:
        for dead_letter in dead_letters:
            key, value = dead_letter.record.key, dead_letter.record.value
            yield _Message(
                self._settings.dlq_topic,
                key[:MAX_KEY_BYTES] if key is not None else None,
                value[:MAX_VALUE_BYTES] if value is not None else _null_value(key),
                dead_letter_headers(dead_letter),
            )

    def _send(self, messages: Sequence[_Message]) -> None:
        doing = f"writing {len(messages)} alerts and dead letters"
        try:
            producer = self._connected({message.topic for message in messages})
            sent = [producer.send(m.topic, key=m.key, value=m.value, headers=m.headers) for m in messages]
            producer.flush(timeout=self._settings.request_timeout_s)
            failed = next((future.exception for future in sent if future.exception is not None), None)
        except (KafkaError, OSError) as error:
            self._drop()
            raise kafka_error(error, self._settings, doing) from error
        if failed is not None:
            self._drop()
            raise kafka_error(failed, self._settings, doing) from failed

    def _connected(self, topics: Iterable[str]) -> KafkaProducer:
        """The producer; opened only once the topics are found, so that the error for a missing topic names it."""
        if self._producer is None:
            self._admin.partitions(topics)
            with muted_client_logs():
                probe_broker(self._settings)
                self._producer = KafkaProducer(**_producer_options(self._settings))
        return self._producer

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            abandon(producer)


def _null_value(key: bytes | None) -> bytes | None:
    """kafka-python rejects a record with neither key nor value; the header `value_null` marks the difference."""
    return b"" if key is None else None


def _producer_options(settings: KafkaSettings) -> dict[str, Any]:
    limit_ms = timeout_ms(settings)
    return python_options(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 0,
        "max_block_ms": limit_ms,
        "delivery_timeout_ms": limit_ms,
        "request_timeout_ms": max(1, limit_ms // 2),
    }
