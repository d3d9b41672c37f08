"""Looking at topics without a group: their last records, or what comes from now on. Nothing is committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from stream_ad.errors import ConfigError
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import kafka_error, python_options, quiet

__all__ = ["KafkaTail", "matching_topics"]

_POLL_MS = 200


def matching_topics(settings: KafkaSettings, pattern: str) -> list[str]:
    """Topics that a name or a shell pattern (`sensors.*`) means now. ConfigError when there is none."""
    admin = KafkaAdmin(settings)
    try:
        if not any(sign in pattern for sign in "*?["):
            return list(admin.partitions([pattern]))
        found = sorted(topic for topic in admin.topics() if fnmatchcase(topic, pattern))
    finally:
        admin.close()
    if not found:
        raise ConfigError(f"no topic on the broker matches {pattern!r}")
    return found


class KafkaTail:
    """A reader of all partitions of some topics, outside any group. It starts at their end.

    ConfigError when a topic does not exist, UnavailableError when the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, topics: Iterable[str]) -> None:
        self._settings = settings
        self._ended = threading.Event()
        admin = KafkaAdmin(settings)
        try:
            counts = admin.partitions(topics)
        finally:
            admin.close()
        self._partitions = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
        try:
            with quiet():
                self._consumer = KafkaConsumer(
                    **python_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
                )
            self._consumer.assign(self._partitions)
            self._ends: dict[TopicPartition, int] = self._consumer.end_offsets(self._partitions)
            for partition, end in self._ends.items():
                self._consumer.seek(partition, end)
        except (KafkaError, OSError) as error:
            raise kafka_error(error, settings, "reading the topics' ends") from error

    def last(self, count: int, timeout_s: float) -> list[SourceRecord]:
        """At most `count` of the newest records a partition, as far as they come within timeout_s."""
        deadline = time.monotonic() + timeout_s
        try:
            first: dict[TopicPartition, int] = self._consumer.beginning_offsets(self._partitions)
            waiting = {p for p, end in self._ends.items() if end > first[p]}
            for partition in waiting:
                self._consumer.seek(partition, max(first[partition], self._ends[partition] - count))
            taken: list[SourceRecord] = []
            while waiting and time.monotonic() < deadline:
                taken += [r for r in self._poll() if r.position.offset < self._ends[_partition(r)]]
                waiting = {p for p in waiting if self._consumer.position(p) < self._ends[p]}
        except (KafkaError, OSError) as error:
            raise kafka_error(error, self._settings, "reading the last records") from error
        return taken

    def follow(self) -> Iterator[SourceRecord]:
        """What comes from the end on, until `end`; a broker that is away is waited for."""
        while not self._ended.is_set():
            try:
                yield from self._poll()
            except (KafkaError, OSError) as error:
                raise kafka_error(error, self._settings, "following the topics") from error

    def end(self) -> None:
        """Ends `follow`; from any thread."""
        self._ended.set()

    def close(self) -> None:
        self._consumer.close()

    def _poll(self) -> Sequence[SourceRecord]:
        found = self._consumer.poll(timeout_ms=_POLL_MS)
        return [
            SourceRecord(
                SourcePosition(r.topic, r.partition, r.offset), max(0, r.timestamp) * 1_000_000, r.key, r.value
            )
            for records in found.values()
            for r in records
        ]


def _partition(record: SourceRecord) -> TopicPartition:
    return TopicPartition(record.position.topic, record.position.partition)
