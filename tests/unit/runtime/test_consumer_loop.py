"""The consumer loop: fencing, deliveries in the background, checkpoints after them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from stream_ad_connectors.host.clock import SystemClock

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import AssignmentListener, Checkpoint
from stream_ad.records import Alert, AlertState, DeadLetter, Outputs, SourcePosition, SourceRecord
from stream_ad.runtime.consumer_loop import ConsumerLimits, ConsumerLoop

PLACE = ("t", 0)


class Source:
    """Ten records, one per poll; `held`: the group has not reassigned the partition."""

    def __init__(self) -> None:
        self.held = True
        self.next = 0
        self.commits: list[int] = []
        self.listener: AssignmentListener | None = None

    async def start(self, listener: AssignmentListener) -> None:
        self.listener = listener
        await listener.assigned(*PLACE)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        assert self.listener is not None
        if not self.held:  # lost, then assigned again: reading resumes at the last commit
            await self.listener.revoked([PLACE], lost=True)
            self.held = True
            await self.listener.assigned(*PLACE)
            self.next = self.commits[-1] if self.commits else 0
        if self.next == 10:
            return None
        self.next += 1
        return [SourceRecord(SourcePosition(*PLACE, self.next - 1), 0, b"k", b"v")]

    async def owns_partitions(self) -> bool:
        return self.held

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        self.commits.append(checkpoints[PLACE].next_offset)

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return Checkpoint(self.commits[-1], self.commits[-1]) if self.commits else None

    async def stop(self) -> None: ...


class States:
    def __init__(self) -> None:
        self.saved = 0

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        return {}

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        self.saved += 1

    async def stop(self) -> None: ...


class PassThrough:
    """In place of a pipeline: each record becomes an output."""

    next = 0

    def process(self, records: Sequence[SourceRecord], now_s: float) -> Outputs:
        self.next = records[-1].position.offset + 1
        return Outputs(dead_letters=[DeadLetter(record, "test", "") for record in records])

    def flush(self, now_s: float | None) -> Outputs:
        return Outputs()

    def checkpoint(self, topic: str, partition: int) -> Any:
        return {"s": b""}, Checkpoint(self.next, self.next)

    def changed_statuses(self) -> list[Any]:
        return []

    def assign(self, topic: str, partition: int, states: object, committed: Checkpoint | None) -> int:
        return committed.replay_offset if committed else 0

    def revoke(self, topic: str, partition: int) -> None: ...


class Sink:
    """Records the offsets it gets; write number `down_at` fails, and meanwhile the partitions are lost."""

    def __init__(self, source: Source, down_at: int) -> None:
        self.source = source
        self.down_at = down_at
        self.calls = 0
        self.offsets: list[int] = []

    def write(self, outputs: Outputs) -> None:
        self.calls += 1
        assert self.source.held, "written after the group continued without it"
        if self.calls == self.down_at:
            self.source.held = False
            raise UnavailableError("down")
        self.offsets += [dead.record.position.offset for dead in outputs.dead_letters]

    def close(self) -> None: ...


@pytest.mark.parametrize("down_at", [1, 4])
async def test_outputs_in_flight_are_dropped_and_recomputed_after_a_loss(down_at: int) -> None:
    source = Source()
    sink = Sink(source, down_at)
    limits = ConsumerLimits(deliver_s=0.0, checkpoint_s=0.0, retry_s=0.01)
    loop = ConsumerLoop(source, cast(Pipeline, PassThrough()), [sink], States(), SystemClock(), limits)
    await loop.run()
    assert list(dict.fromkeys(sink.offsets)) == list(range(10))
    assert source.commits[-1] == 10


# ---- deliveries while the next records are processed

RECORDS = 6


class Recorder:
    """Source, state store, pipeline and sink in one, so that one list has all events in order.

    A write ends once `ahead` later polls are processed, or when there are no more.
    """

    def __init__(self, ahead: int, *, broken: bool = False) -> None:
        self.ahead, self.broken = ahead, broken
        self.events: list[tuple[str, int]] = []
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
        self.events.append(("commit", checkpoints["t", 0].next_offset))

    async def stop(self) -> None: ...

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        return {}

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        self.events.append(("save", self.processed))

    def process(self, records: Sequence[SourceRecord], now_s: float) -> Outputs:
        with self.moved:
            self.processed += len(records)
            self.moved.notify_all()
        return Outputs(dead_letters=[DeadLetter(record, "test", "") for record in records])

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
            assert self.moved.wait_for(lambda: self.processed >= wanted, timeout=240), "nothing was processed meanwhile"
        self.events.append(("written", last))

    def close(self) -> None: ...


class AlertingRecorder(Recorder):
    """The third record opens an alert."""

    def process(self, records: Sequence[SourceRecord], now_s: float) -> Outputs:
        outputs = super().process(records, now_s)
        if self.processed == 3:
            outputs.alerts.append(Alert("1", "pump", "score", AlertState.OPEN, 0, 0, 0, None, 0, 1.5, 0, (), "1"))
        return outputs


def consumer_loop(recorder: Recorder, checkpoint_s: float, deliver_s: float = 0.0) -> ConsumerLoop:
    limits = ConsumerLimits(poll_s=0.01, deliver_s=deliver_s, checkpoint_s=checkpoint_s)
    return ConsumerLoop(recorder, cast(Pipeline, recorder), [recorder], recorder, SystemClock(), limits)


async def test_records_are_processed_while_outputs_are_written() -> None:
    recorder = Recorder(ahead=1)
    await consumer_loop(recorder, 1e12).run()
    written = [last for what, last in recorder.events if what == "written"]
    assert written == sorted(written)
    assert written[-1] == RECORDS - 1


async def test_an_alert_is_delivered_at_once() -> None:
    recorder = AlertingRecorder(ahead=1)  # a write ends only after another record is processed
    await consumer_loop(recorder, 1e12, deliver_s=1e12).run()
    assert [last for what, last in recorder.events if what == "written"] == [2, RECORDS - 1]


async def test_a_checkpoint_waits_for_deliveries() -> None:
    recorder = Recorder(ahead=0)
    await consumer_loop(recorder, 0.0).run()
    written = -1
    for what, number in recorder.events:
        if what == "written":
            written = number
        else:
            assert number <= written + 1
    assert recorder.events[-1] == ("commit", RECORDS)


async def test_a_permanent_write_error_ends_the_loop() -> None:
    with pytest.raises(StreamAdError, match="cannot take"):
        await consumer_loop(Recorder(ahead=0, broken=True), 1e12).run()
