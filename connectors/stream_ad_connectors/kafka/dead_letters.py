"""Reading the dead-letter topic back into what was written there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream_ad.errors import ConfigError, DataError, UnavailableError
from stream_ad.records import DeadLetter, SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import kafka_error, python_options, quiet
from stream_ad_connectors.kafka.security import reach

__all__ = ["KafkaDeadLetterReader", "dead_letter_of"]

_POLL_MS = 200
log = logging.getLogger(__name__)


def dead_letter_of(headers: Iterable[tuple[str, bytes]], key: bytes | None, value: bytes | None) -> DeadLetter:
    """What `dead_letter_headers` described. DataError when the headers are not those of a dead letter.

    Times come back in milliseconds, and of a key or value that was cut only the beginning.
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

    ConfigError when the topic does not exist, UnavailableError when the broker does not answer. A record that is no
    dead letter is passed over with a warning.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = settings.dlq_topic
        admin = KafkaAdmin(settings)
        try:
            count = admin.topics().get(self._topic)
        finally:
            admin.close()
        if count is None:
            raise ConfigError(
                f"topic {self._topic!r} does not exist on the broker",
                hint="a worker makes it at its first start; if one has run: is kafka.namespace the same?",
            )
        self._partitions = [TopicPartition(self._topic, partition) for partition in range(count)]
        try:
            with quiet():
                reach(settings)
                self._consumer = KafkaConsumer(
                    **python_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
                )
        except (KafkaError, OSError) as error:
            raise kafka_error(error, settings, "reading the dead letters") from error

    def read_dead_letters(self) -> Iterator[DeadLetter]:
        """A letter that was written twice (a time-out of the producer) is told once."""
        seen: set[int] = set()
        for key, value, headers, place in self._records():
            try:
                letter = dead_letter_of(headers, key, value)
            except DataError as error:
                log.warning("%s is passed over: %s", place, error)
                continue
            mark = hash((letter.record.position, letter.record.timestamp_ns, letter.reason, letter.detail))
            if mark not in seen:
                seen.add(mark)
                yield letter

    def close(self) -> None:
        self._consumer.close()

    def _records(self) -> Iterator[tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], str]]:
        """Key, value, headers and place of every record up to the ends found now."""
        consumer, limit_s = self._consumer, self._settings.request_timeout_s
        try:
            consumer.assign(self._partitions)
            consumer.seek_to_beginning(*self._partitions)
            ends: dict[TopicPartition, int] = consumer.end_offsets(self._partitions)
            firsts: dict[TopicPartition, int] = consumer.beginning_offsets(self._partitions)
            waiting = {p for p, end in ends.items() if end > firsts[p]}
            heard = time.monotonic()
            while waiting:
                found = consumer.poll(timeout_ms=_POLL_MS)
                for partition, records in found.items():
                    for record in records:
                        if record.offset < ends[partition]:
                            place = f"record {record.offset} of {self._topic}-{record.partition}"
                            yield record.key, record.value, record.headers, place
                waiting = {p for p in waiting if consumer.position(p) < ends[p]}
                if found:
                    heard = time.monotonic()
                elif waiting and time.monotonic() - heard > limit_s:
                    raise UnavailableError(f"reading {self._topic!r}: nothing came within {limit_s:g} s")
        except (KafkaError, OSError) as error:
            raise kafka_error(error, self._settings, "reading the dead letters") from error
