"""Broker administration: check it, list and create topics, read a group's offsets and lag.

Synchronous, over kafka-python's admin client; from asyncio call it in a thread. It opens one connection, at first use.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import InvalidPartitionsError, KafkaError, TopicAlreadyExistsError

from stream_ad.records import GroupLag
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.connection import (
    kafka_error,
    missing_topic,
    muted_client_logs,
    python_options,
    timeout_ms,
)
from stream_ad_connectors.kafka.security import probe_broker

__all__ = ["SUBSCRIPTIONS_CONFIG", "CommittedOffset", "KafkaAdmin", "ensure_topics"]

T = TypeVar("T")
_NO_COORDINATOR_YET = ("CoordinatorNotAvailableError", "CoordinatorLoadInProgressError", "NotCoordinatorError")
STATE_MAX_BYTES = 8 * 1024 * 1024
SUBSCRIPTIONS_CONFIG: Mapping[str, str] = {"cleanup.policy": "compact"}
_STATE_CONFIG = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(STATE_MAX_BYTES),
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": str(64 * 1024 * 1024),
}


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """A group's commit: the offset of the NEXT record to read, and the metadata."""

    offset: int
    metadata: str


class KafkaAdmin:
    """Every method raises errors of the tree only: UnavailableError, AccessError, ConfigError. Thread-safe."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    def check(self) -> str:
        """One line on the cluster; UnavailableError when no broker answers within request_timeout_s."""
        cluster = self._call("reaching the broker", lambda client: client.describe_cluster())
        return f"Kafka at {self._settings.bootstrap}: {len(cluster['brokers'])} broker(s)"

    def topics(self) -> dict[str, int]:
        """Topic -> number of partitions, without the broker's internal topics."""
        found = self._call("listing topics", lambda client: client.describe_topics())
        return {t["name"]: len(t["partitions"]) for t in found if not t["is_internal"]}

    def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Topic -> number of partitions. ConfigError names the first topic that does not exist."""
        wanted = list(dict.fromkeys(topics))
        found = self._existing(wanted)
        for topic in wanted:
            if topic not in found:
                raise missing_topic(topic)
        return found

    def create_topic(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> bool:
        """False when it exists already, also when another process has just created it."""
        spec = {
            topic: {
                "num_partitions": partitions,
                "replication_factor": self._settings.replication,
                "configs": dict(config or {}),
            }
        }

        def create(client: KafkaAdminClient) -> bool:
            try:
                client.create_topics(spec, timeout_ms=timeout_ms(self._settings))
            except TopicAlreadyExistsError:
                return False
            client.wait_for_topics([topic], timeout_ms=timeout_ms(self._settings))
            return True

        return self._call(f"creating topic {topic!r}", create)

    def grow_topic(self, topic: str, partitions: int) -> None:
        """Adds partitions up to that number; harmless for the state topic, whose partitions no hash chooses."""

        def grow(client: KafkaAdminClient) -> None:
            try:
                client.create_partitions({topic: partitions}, timeout_ms=timeout_ms(self._settings))
            except InvalidPartitionsError:  # harmless if another worker has added them first
                if any(len(found["partitions"]) < partitions for found in client.describe_topics([topic])):
                    raise
            client.wait_for_topics([topic], timeout_ms=timeout_ms(self._settings))

        self._call(f"adding partitions to topic {topic!r}", grow)

    def committed(self, pairs: Collection[tuple[str, int]] | None = None) -> dict[tuple[str, int], CommittedOffset]:
        """The group's commits with their metadata, for the named partitions or for all."""
        asked = None if pairs is None else [TopicPartition(topic, partition) for topic, partition in pairs]
        group = self._settings.group

        def read(client: KafkaAdminClient) -> dict[tuple[str, int], CommittedOffset]:
            found = client.list_group_offsets({group: asked})[group]
            return {
                (tp.topic, tp.partition): CommittedOffset(meta.offset, meta.metadata or "")
                for tp, meta in found.items()
                if meta.offset >= 0
            }

        return self._call(f"reading the offsets of group {group!r}", read)

    def lag(self, topics: Iterable[str]) -> list[GroupLag]:
        """The group's lag in each partition of the topics."""
        pairs = [(topic, p) for topic, count in self.partitions(topics).items() for p in range(count)]
        committed = self.committed(pairs)
        first, last = (self._offsets(pairs, spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
        return [
            GroupLag(topic, p, found.offset if (found := committed.get((topic, p))) else None, first[topic, p], end)
            for (topic, p), end in last.items()
        ]

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _offsets(self, pairs: Collection[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        asked = {TopicPartition(topic, partition): spec for topic, partition in pairs}
        found = self._call("reading offsets", lambda client: client.list_partition_offsets(asked))
        return {(tp.topic, tp.partition): int(found[tp].offset) for tp in asked}

    def _existing(self, topics: list[str]) -> dict[str, int]:
        found = self._call("looking for topics", lambda client: client.describe_topics(topics) if topics else [])
        return {t["name"]: len(t["partitions"]) for t in found if t["error_code"] == 0}

    def _call(self, doing: str, work: Callable[[KafkaAdminClient], T]) -> T:
        """Trap: at its first group request a broker creates the offsets topic, and has no coordinator until then."""
        deadline = time.monotonic() + self._settings.request_timeout_s
        with self._lock:
            while True:
                try:
                    return work(self._connected())
                except (KafkaError, OSError, RuntimeError) as error:  # RuntimeError: no controller found
                    if type(error).__name__ not in _NO_COORDINATOR_YET or time.monotonic() > deadline:
                        self._drop()
                        raise kafka_error(error, self._settings, doing) from error
                time.sleep(0.1)

    def _connected(self) -> KafkaAdminClient:
        if self._client is None:
            with muted_client_logs():
                probe_broker(self._settings)
                self._client = KafkaAdminClient(**python_options(self._settings))
        return self._client

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def ensure_topics(settings: KafkaSettings, subscribed: Iterable[str], admin: KafkaAdmin | None = None) -> list[str]:
    """Creates the missing topics of the product; returns their names.

    The state topic gets as many partitions as the widest subscribed topic (or kafka.state_partitions) and grows with
    it. Idempotent, also when several workers call it at once. ConfigError when a subscribed topic does not exist.
    """
    own = admin or KafkaAdmin(settings)
    try:
        widest = max(own.partitions(subscribed).values(), default=1)
        state = settings.state_partitions or widest
        wanted: dict[str, tuple[int, Mapping[str, str]]] = {
            settings.alerts_topic: (widest, {}),
            settings.dlq_topic: (1, {}),
            settings.state_topic: (state, _STATE_CONFIG),
            settings.subscriptions_topic: (1, SUBSCRIPTIONS_CONFIG),
        }
        existing = own.topics()
        created = [
            topic
            for topic, (partitions, config) in wanted.items()
            if topic not in existing and own.create_topic(topic, partitions, config)
        ]
        if existing.get(settings.state_topic, state) < state:
            own.grow_topic(settings.state_topic, state)
        return created
    finally:
        if admin is None:
            own.close()
