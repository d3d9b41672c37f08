"""Dead-letter records: how their headers describe a failed record, and reading the dead-letter topic."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from stream_ad.errors import ConfigError, DataError
from stream_ad.records import DeadLetter, SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import kafka_error
from stream_ad_connectors.kafka.records import groupless_consumer, read_to_end

__all__ = ["MAX_KEY_BYTES", "MAX_VALUE_BYTES", "KafkaDeadLetterReader", "dead_letter_headers", "dead_letter_of"]

MAX_VALUE_BYTES = 500_000
MAX_KEY_BYTES = 100_000
MAX_TEXT_CHARS = 10_000
log = logging.getLogger(__name__)


def dead_letter_headers(dead_letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Where the record came from and why it could not be used.

    Headers: source_topic, source_partition, source_offset, source_timestamp_ms, error_class, error_text, and
    original_size (original_key_size) when the value (key) was cut, value_null when there was none.
    """
    record = dead_letter.record
    headers = {
        "source_topic": record.position.topic,
        "source_partition": str(record.position.partition),
        "source_offset": str(record.position.offset),
        "source_timestamp_ms": str(record.timestamp_ns // 1_000_000),
        "error_class": dead_letter.reason,
        "error_text": dead_letter.detail[:MAX_TEXT_CHARS],
    }
    if record.value is not None and len(record.value) > MAX_VALUE_BYTES:
        headers["original_size"] = str(len(record.value))
    if record.key is not None and len(record.key) > MAX_KEY_BYTES:
        headers["original_key_size"] = str(len(record.key))
    if record.value is None:
        headers["value_null"] = "true"
    return [(name, text.encode("utf-8", "backslashreplace")) for name, text in headers.items()]


def dead_letter_of(headers: Iterable[tuple[str, bytes]], key: bytes | None, value: bytes | None) -> DeadLetter:
    """The inverse of `dead_letter_headers`. DataError when the headers are not those of a dead-letter record.

    Times have millisecond precision; a key or value that was cut stays cut.
    """
    texts = {name: body.decode("utf-8", "replace") for name, body in headers}

    def number(name: str) -> int | None:
        return int(texts[name]) if name in texts else None

    try:
        position = SourcePosition(texts["source_topic"], int(texts["source_partition"]), int(texts["source_offset"]))
        timestamp_ns = int(texts["source_timestamp_ms"]) * 1_000_000
        return DeadLetter(
            SourceRecord(position, timestamp_ns, key, None if "value_null" in texts else value),
            texts["error_class"],
            texts["error_text"],
            number("original_size"),
            number("original_key_size"),
        )
    except KeyError as error:
        raise DataError(f"expected a header {error} of a dead letter, found {sorted(texts)}") from None
    except ValueError as error:
        raise DataError(f"expected numbers in the headers of a dead letter: {error}") from None


class KafkaDeadLetterReader:
    """ports.DeadLetterReader over the dead-letter topic, outside any group; nothing is committed.

    ConfigError when the topic does not exist, UnavailableError when the broker does not answer. Any other record on
    the topic is skipped with a warning.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        topic = settings.dlq_topic
        with closing(KafkaAdmin(settings)) as admin:
            count = admin.topics().get(topic)
        if count is None:
            raise ConfigError(
                f"topic {topic!r} does not exist on the broker",
                hint="a worker creates it at its first start; if one has run: is kafka.namespace the same?",
            )
        self._partitions = [TopicPartition(topic, partition) for partition in range(count)]
        try:
            self._consumer = groupless_consumer(settings, self._partitions)
        except (KafkaError, OSError) as error:
            raise kafka_error(error, settings, "reading the dead letters") from error

    def read_dead_letters(self) -> Iterator[DeadLetter]:
        """Each once, even if a producer's time-out made it write one twice."""
        seen: set[int] = set()
        for record in self._records():
            try:
                found = dead_letter_of(record.headers, record.key, record.value)
            except DataError as error:
                log.warning("record %d of %s-%d is skipped: %s", record.offset, record.topic, record.partition, error)
                continue
            identity = hash((found.record.position, found.record.timestamp_ns, found.reason, found.detail))
            if identity not in seen:
                seen.add(identity)
                yield found

    def close(self) -> None:
        self._consumer.close()

    def _records(self) -> Iterator[Any]:
        """Every ConsumerRecord up to the ends the partitions have now."""
        try:
            for partition, first in self._consumer.beginning_offsets(self._partitions).items():
                self._consumer.seek(partition, first)
            ends = self._consumer.end_offsets(self._partitions)
            yield from read_to_end(self._consumer, ends, timeout_s=self._settings.request_timeout_s)
        except (KafkaError, OSError) as error:
            raise kafka_error(error, self._settings, "reading the dead letters") from error
