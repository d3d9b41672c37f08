"""The loop's guarantees where a group goes on without its worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from stream_ad_connectors.host.clock import SystemClock

from stream_ad.errors import UnavailableError
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import AssignmentListener, Checkpoint
from stream_ad.records import DeadLetter, Outputs, SourcePosition, SourceRecord
from stream_ad.runtime.consumer_loop import ConsumerLimits, ConsumerLoop

PLACE = ("t", 0)


class Source:
    """Ten records, one a poll; `owns_partitions` is what the group says."""

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
        if not self.held:  # the group tells, and gives the partition back: reading begins at the last commit
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


class Echo:
    """In place of a pipeline: each record becomes an output."""

    next = 0

    def process(self, records: Sequence[SourceRecord], now_s: float) -> Outputs:
        self.next = records[-1].position.offset + 1
        return Outputs(dead_letters=[DeadLetter(record, "echo", "") for record in records])

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
    """Notes what it gets; at the write number `away_at` the store is away, and meanwhile the partitions are lost."""

    def __init__(self, source: Source, away_at: int) -> None:
        self.source = source
        self.away_at = away_at
        self.calls = 0
        self.offsets: list[int] = []

    def write(self, outputs: Outputs) -> None:
        self.calls += 1
        assert self.source.held, "written after the group went on"
        if self.calls == self.away_at:
            self.source.held = False
            raise UnavailableError("away")
        self.offsets += [letter.record.position.offset for letter in outputs.dead_letters]

    def close(self) -> None: ...


@pytest.mark.parametrize("away_at", [1, 4])
async def test_what_is_in_hand_when_partitions_are_lost_is_left_and_comes_again(away_at: int) -> None:
    source = Source()
    sink = Sink(source, away_at)
    limits = ConsumerLimits(deliver_s=0.0, checkpoint_s=0.0, retry_s=0.01)
    ingest = ConsumerLoop(source, cast(Pipeline, Echo()), [sink], States(), SystemClock(), limits)
    await ingest.run()
    assert list(dict.fromkeys(sink.offsets)) == list(range(10))
    assert source.commits[-1] == 10
