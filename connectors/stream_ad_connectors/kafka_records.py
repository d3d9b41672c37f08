"""Records of a Kafka consumer as the pipeline's."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from stream_ad.records import SourcePosition, SourceRecord

__all__ = ["kafka_records"]


def kafka_records(records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[SourceRecord]:
    """Of aiokafka or kafka-python; Kafka's milliseconds become nanoseconds, no timestamp becomes 0."""
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
