"""Alerts and dead letters to Kafka, with kafka-python's idempotent producer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from stream_ad.records import Alert, DeadLetter, Outputs
from stream_ad.serde.alerts import alert_from_json, alert_to_json
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin, ensure_topics
from stream_ad_connectors.kafka.connection import abandon, kafka_error, python_options, quiet, timeout_ms
from stream_ad_connectors.kafka.security import reach

__all__ = ["KafkaSink", "alert_from_json", "alert_to_json", "dead_letter_headers", "ensure_topics"]

MAX_VALUE_BYTES = 500_000
MAX_KEY_BYTES = 100_000
MAX_TEXT_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Where the record came from and why it could not be used.

    Headers: source_topic, source_partition, source_offset, source_timestamp_ms, error_class, error_text, and
    original_size (original_key_size) when the value (key) was cut, value_null when there was none.
    """
    record = letter.record
    headers = {
        "source_topic": record.position.topic,
        "source_partition": str(record.position.partition),
        "source_offset": str(record.position.offset),
        "source_timestamp_ms": str(record.timestamp_ns // 1_000_000),
        "error_class": letter.reason,
        "error_text": letter.detail[:MAX_TEXT_CHARS],
    }
    if record.value is not None and len(record.value) > MAX_VALUE_BYTES:
        headers["original_size"] = str(len(record.value))
    if record.key is not None and len(record.key) > MAX_KEY_BYTES:
        headers["original_key_size"] = str(len(record.key))
    if record.value is None:
        headers["value_null"] = "true"
    return [(name, text.encode("utf-8", "backslashreplace")) for name, text in headers.items()]


class KafkaSink:
    """Sink for `outputs.alerts` (key = series) and `outputs.dead_letters` (key and value as they came, or cut).

    Scores and statuses belong to the store and are passed over. `write` returns when the broker has acknowledged every
    record on all in-sync replicas. Trap: after a time-out the broker may have part of them, so writing again repeats
    those (an alert's id and a dead letter's source offset tell repeats); the producer is thrown away then, or its
    buffer would fill with one copy for each attempt.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._producer: KafkaProducer | None = None

    def write(self, outputs: Outputs) -> None:
        messages = [*self._alerts(outputs.alerts), *self._letters(outputs.dead_letters)]
        if messages:
            self._send(messages)

    def close(self) -> None:
        """Nothing is pending between two writes, so nothing can be lost here."""
        self._drop()
        self._admin.close()

    def _alerts(self, alerts: Iterable[Alert]) -> Iterable[_Message]:
        for alert in alerts:
            yield _Message(self._settings.alerts_topic, alert.series.encode(), alert_to_json(alert), [])

    def _letters(self, letters: Iterable[DeadLetter]) -> Iterable[_Message]:
        for letter in letters:
            key, value = letter.record.key, letter.record.value
            yield _Message(
                self._settings.dlq_topic,
                key[:MAX_KEY_BYTES] if key is not None else None,
                value[:MAX_VALUE_BYTES] if value is not None else _null_value(key),
                dead_letter_headers(letter),
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
        """The producer; a new one only after the topics were seen, so that a missing topic is told as such."""
        if self._producer is None:
            self._admin.partitions(topics)
            with quiet():
                reach(self._settings)
                self._producer = KafkaProducer(**_producer_options(self._settings))
        return self._producer

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            abandon(producer)


def _null_value(key: bytes | None) -> bytes | None:
    """kafka-python refuses a record with neither key nor value; the header `value_null` tells what it was."""
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
