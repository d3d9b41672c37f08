"""Outputs are written while the next records are processed; a checkpoint still waits for every one of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import cast

import pytest
from stream_ad_connectors.host.clock import SystemClock

from stream_ad.errors import StreamAdError
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import AssignmentListener, Checkpoint
from stream_ad.records import Alert, AlertState, DeadLetter, Outputs, SourcePosition, SourceRecord
from stream_ad.runtime.consumer_loop import ConsumerLimits, ConsumerLoop

RECORDS = 6


class Course:
    """Source, state store, pipeline and sink in one, so that one list holds what happened in its order.

    A write ends only once `ahead` later polls were processed, or when there are no more.
    """

    def __init__(self, ahead: int, *, broken: bool = False) -> None:
        self.ahead, self.broken = ahead, broken
        self.happened: list[tuple[str, int]] = []
        self.processed = 0
        self.moved = threading.Condition()

    async def start(self, listener: AssignmentListener) -> None:
        await listener.assigned("t", 0)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        if self.processed == RECORDS:
            return None
        return [SourceRecord(SourcePosition("t", 0, self.processed), 0, None, b"x")]

    async def owns_partitions(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return None

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        self.happened.append(("commit", checkpoints["t", 0].next_offset))

    async def stop(self) -> None: ...

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        return {}

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        self.happened.append(("save", self.processed))

    def process(self, records: Sequence[SourceRecord], now_s: float) -> Outputs:
        with self.moved:
            self.processed += len(records)
            self.moved.notify_all()
        return Outputs(dead_letters=[DeadLetter(record, "echo", "") for record in records])

    def flush(self, now_s: float | None) -> Outputs:
        return Outputs()

    def changed_statuses(self) -> list[object]:
        return []

    def assign(self, topic: str, partition: int, states: Mapping[str, bytes], committed: object) -> int | None:
        return None

    def checkpoint(self, topic: str, partition: int) -> tuple[dict[str, bytes], Checkpoint]:
        return {}, Checkpoint(self.processed, self.processed)

    def write(self, outputs: Outputs) -> None:
        if self.broken:
            raise StreamAdError("the store cannot take it")
        last = outputs.dead_letters[-1].record.position.offset
        with self.moved:
            wanted = min(last + 1 + self.ahead, RECORDS)
            assert self.moved.wait_for(lambda: self.processed >= wanted, timeout=60), "nothing was processed meanwhile"
        self.happened.append(("written", last))

    def close(self) -> None: ...


class Alarmed(Course):
    """The third record opens an alert."""

    def process(self, records: Sequence[SourceRecord], now_s: float) -> Outputs:
        outputs = super().process(records, now_s)
        if self.processed == 3:
            outputs.alerts.append(Alert("1", "pump", "score", AlertState.OPEN, 0, 0, 0, None, 0, 1.5, 0, (), "1"))
        return outputs


def ingest(course: Course, checkpoint_s: float, deliver_s: float = 0.0) -> ConsumerLoop:
    limits = ConsumerLimits(poll_s=0.01, deliver_s=deliver_s, checkpoint_s=checkpoint_s)
    return ConsumerLoop(course, cast(Pipeline, course), [course], course, SystemClock(), limits)


async def test_the_next_records_are_processed_while_outputs_are_written() -> None:
    course = Course(ahead=1)
    await ingest(course, 1e12).run()
    written = [last for what, last in course.happened if what == "written"]
    assert written == sorted(written)
    assert written[-1] == RECORDS - 1


async def test_an_alert_does_not_wait_for_other_outputs() -> None:
    course = Alarmed(ahead=1)  # what is written ends only when another record was processed
    await ingest(course, 1e12, deliver_s=1e12).run()
    assert [last for what, last in course.happened if what == "written"] == [2, RECORDS - 1]


async def test_a_checkpoint_waits_for_what_is_being_written() -> None:
    course = Course(ahead=0)
    await ingest(course, 0.0).run()
    told = -1
    for what, number in course.happened:
        if what == "written":
            told = number
        else:
            assert number <= told + 1
    assert course.happened[-1] == ("commit", RECORDS)


async def test_a_write_that_fails_for_good_ends_the_loop() -> None:
    with pytest.raises(StreamAdError, match="cannot take"):
        await ingest(Course(ahead=0, broken=True), 1e12).run()
