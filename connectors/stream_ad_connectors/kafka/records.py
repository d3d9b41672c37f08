"""Consumer records as SourceRecords, and topics read up to their present end without a group."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from kafka import KafkaConsumer, TopicPartition

from stream_ad.errors import UnavailableError
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.connection import muted_client_logs, python_options
from stream_ad_connectors.kafka.security import probe_broker

__all__ = ["POLL_MS", "groupless_consumer", "read_partition_to_end", "read_to_end", "source_records"]

POLL_MS = 200


def source_records(records: Iterable[Any]) -> list[SourceRecord]:
    """ConsumerRecords of aiokafka or kafka-python; Kafka's milliseconds become nanoseconds, no timestamp becomes 0."""
    return [
        SourceRecord(
            SourcePosition(r.topic, r.partition, r.offset),
            max(0, r.timestamp) * 1_000_000,
            _bytes(r.key),
            _bytes(r.value),
        )
        for r in records
    ]


def _bytes(payload: bytes | bytearray | memoryview | None) -> bytes | None:
    return payload if payload is None or type(payload) is bytes else bytes(payload)


def groupless_consumer(settings: KafkaSettings, partitions: list[TopicPartition]) -> KafkaConsumer:
    """A consumer of these partitions outside any group. Raises the library's errors."""
    with muted_client_logs():
        probe_broker(settings)
        consumer = KafkaConsumer(
            **python_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
        )
    consumer.assign(partitions)
    return consumer


def read_to_end(
    consumer: KafkaConsumer, ends: Mapping[TopicPartition, int], *, timeout_s: float, in_all: bool = False
) -> Iterator[Any]:
    """The ConsumerRecords from the consumer's positions up to `ends`, where it leaves the positions.

    ends: log-end offset of every assigned partition. UnavailableError after timeout_s without a record; in_all: after
    timeout_s in all.
    """
    deadline = time.monotonic() + timeout_s
    behind = list(ends)
    while behind := [partition for partition in behind if consumer.position(partition) < ends[partition]]:
        if time.monotonic() > deadline:
            topics = ", ".join(sorted({partition.topic for partition in ends}))
            raise UnavailableError(f"reading {topics}: no record arrived within {timeout_s:g} s")
        found = consumer.poll(timeout_ms=POLL_MS)
        for partition, records in found.items():
            yield from (record for record in records if record.offset < ends[partition])
        if found and not in_all:
            deadline = time.monotonic() + timeout_s
    for partition, end in ends.items():
        if consumer.position(partition) > end:
            consumer.seek(partition, end)


async def read_partition_to_end(
    consumer: AIOKafkaConsumer[bytes, bytes], partition: Any, *, timeout_s: float
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """The records of one partition from its beginning to the end it has now.

    UnavailableError after timeout_s without progress. Trap: compaction leaves gaps, so the position may advance
    without a record.
    """
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    await consumer.seek_to_beginning(partition)
    deadline = time.monotonic() + timeout_s
    while (at := await consumer.position(partition)) < end:
        batch = (await consumer.getmany(partition, timeout_ms=500)).get(partition, [])
        for record in batch:
            yield record
        if batch or await consumer.position(partition) > at:
            deadline = time.monotonic() + timeout_s
        elif time.monotonic() > deadline:
            raise UnavailableError(f"reading {partition.topic}/{partition.partition} stopped at offset {at} of {end}")
