"""Reading topics without a group: their last records, or those that arrive from now on. Nothing is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from fnmatch import fnmatchcase

from kafka import TopicPartition
from kafka.errors import KafkaError

from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.records import SourceRecord
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.connection import kafka_error
from stream_ad_connectors.kafka.records import POLL_MS, groupless_consumer, read_to_end, source_records

__all__ = ["KafkaTail", "matching_topics"]


def matching_topics(settings: KafkaSettings, pattern: str) -> list[str]:
    """The existing topics of a name or a shell pattern (`sensors.*`). ConfigError when there is none."""
    with closing(KafkaAdmin(settings)) as admin:
        if not any(sign in pattern for sign in "*?["):
            return list(admin.partitions([pattern]))
        found = sorted(topic for topic in admin.topics() if fnmatchcase(topic, pattern))
    if not found:
        raise ConfigError(f"no topic on the broker matches {pattern!r}")
    return found


class KafkaTail:
    """Reads all partitions of some topics outside any group, beginning at their end.

    ConfigError when a topic does not exist, UnavailableError when the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, topics: Iterable[str]) -> None:
        self._settings = settings
        self._ended = threading.Event()
        with closing(KafkaAdmin(settings)) as admin:
            counts = admin.partitions(topics)
        partitions = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
        try:
            self._consumer = groupless_consumer(settings, partitions)
            self._ends: dict[TopicPartition, int] = self._consumer.end_offsets(partitions)
            for partition, end in self._ends.items():
                self._consumer.seek(partition, end)
        except (KafkaError, OSError) as error:
            raise kafka_error(error, settings, "reading the topics' ends") from error

    def last(self, count: int, timeout_s: float) -> list[SourceRecord]:
        """The newest `count` records of each partition at most, as many as arrive within timeout_s."""
        found: list[SourceRecord] = []
        try:
            first: dict[TopicPartition, int] = self._consumer.beginning_offsets(list(self._ends))
            for partition, end in self._ends.items():
                self._consumer.seek(partition, max(first[partition], end - count))
            for record in read_to_end(self._consumer, self._ends, timeout_s=timeout_s, in_all=True):
                found += source_records([record])
        except UnavailableError:
            return found
        except (KafkaError, OSError) as error:
            raise kafka_error(error, self._settings, "reading the last records") from error
        return found

    def follow(self) -> Iterator[SourceRecord]:
        """The records that arrive from now on, until `end`; while the broker is down it waits."""
        while not self._ended.is_set():
            try:
                for records in self._consumer.poll(timeout_ms=POLL_MS).values():
                    yield from source_records(records)
            except (KafkaError, OSError) as error:
                raise kafka_error(error, self._settings, "following the topics") from error

    def end(self) -> None:
        """Ends `follow`. Thread-safe."""
        self._ended.set()

    def close(self) -> None:
        self._consumer.close()
