"""The undisturbed run: the whole log through the pipeline, in this process, into an embedded store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.dead_letters import KafkaDeadLetterReader
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.records import Alert, DeadLetter, Outputs, SourcePosition, SourceRecord
from stream_ad.serde.alerts import alert_from_json
from stream_ad.settings import Settings
from stream_ad.wiring import build_scorer, open_profiles

__all__ = ["Undisturbed", "alert_events", "dead_letters"]

_CHUNK = 2000


@dataclass
class Undisturbed:
    """store: scores and alerts; events: alerts as published; dead_letters: partition, offset and reason of each."""

    store: SqliteStore
    records: int = 0
    events: set[tuple[str, str, int]] = field(default_factory=set)
    dead_letters: set[tuple[int, int, str]] = field(default_factory=set)

    @classmethod
    def run(cls, settings: Settings, path: Path, *, tail: bool) -> Undisturbed:
        """tail: the slots that wait at the end of the log are emitted too, as on a silent series."""
        done = cls(SqliteStore(path))
        pipeline = Pipeline(settings, build_scorer(settings), open_profiles(settings))
        topic = settings.subscription[0].topic
        for partition in range(partitions_of(settings, topic)):
            pipeline.assign(topic, partition, {}, None)
        for chunk in read_all(settings, topic):
            done._take(pipeline.process(chunk))
            done.records += len(chunk)
        if tail:
            done._take(pipeline.flush(None))
        return done

    def _take(self, outputs: Outputs) -> None:
        self.store.write(outputs)
        self.events |= {event_of(alert) for alert in outputs.alerts}
        self.dead_letters |= set(map(identity_of, outputs.dead_letters))


def event_of(alert: Alert) -> tuple[str, str, int]:
    return alert.id, alert.state.value, alert.revision


def identity_of(dead_letter: DeadLetter) -> tuple[int, int, str]:
    position = dead_letter.record.position
    return position.partition, position.offset, dead_letter.reason


def partitions_of(settings: Settings, topic: str) -> int:
    admin = KafkaAdmin(settings.kafka)
    try:
        return admin.partitions([topic])[topic]
    finally:
        admin.close()


def read_all(settings: Settings, topic: str) -> Iterator[list[SourceRecord]]:
    """Every record in the topic now, partition by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap, group_id=None, enable_auto_commit=False, max_poll_records=_CHUNK
    )
    try:
        for partition in range(partitions_of(settings, topic)):
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek_to_beginning(place)
            end = consumer.end_offsets([place])[place]
            while consumer.position(place) < end:
                for found in consumer.poll(timeout_ms=500).values():
                    yield [_record(r) for r in found if r.offset < end]
    finally:
        consumer.close()


def _record(r: Any) -> SourceRecord:
    return SourceRecord(SourcePosition(r.topic, r.partition, r.offset), r.timestamp * 1_000_000, r.key, r.value)


def alert_events(settings: Settings) -> list[tuple[str, str, int]]:
    """All events on the alerts topic, repetitions included."""
    return [
        event_of(alert_from_json(record.value))
        for chunk in read_all(settings, settings.kafka.alerts_topic)
        for record in chunk
        if record.value is not None
    ]


def dead_letters(settings: Settings) -> set[tuple[int, int, str]]:
    reader = KafkaDeadLetterReader(settings.kafka)
    try:
        return set(map(identity_of, reader.read_dead_letters()))
    finally:
        reader.close()
