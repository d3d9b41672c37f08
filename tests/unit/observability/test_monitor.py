"""What a worker is asked of while it works: the broker's ends, and whether the group has settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from stream_ad_connectors.host.clock import SystemClock

import stream_ad.observability.monitor as module
from stream_ad.errors import UnavailableError
from stream_ad.observability.instrumented import InstrumentedPipeline
from stream_ad.observability.monitor import WorkerMonitor
from stream_ad.ports import Checkpoint, PartitionLag
from tests.support.fakes import LevelScorer, MemoryProfiles
from tests.unit.detection.test_absence import settings

PLACE = ("t", 0)
Made = tuple[WorkerMonitor, InstrumentedPipeline]
Answer = Mapping[tuple[str, int], PartitionLag] | None | UnavailableError


@dataclass
class Asked:
    """A source that only tells where reading stands; the last answer goes on."""

    answers: list[Answer]

    async def lags(self) -> Mapping[tuple[str, int], PartitionLag] | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, UnavailableError):
            raise answer
        return answer


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(module, "MEASURE_S", 0.001)
    monkeypatch.setattr(module, "BEAT_S", 0.001)
    monitor = WorkerMonitor(settings("1s"), SystemClock())
    pipeline = monitor.pipeline(settings("1s"), LevelScorer(), MemoryProfiles())  # type: ignore[arg-type]
    pipeline.assign(*PLACE, {}, Checkpoint(0, 0))
    return monitor, pipeline


async def run_until(
    ready: Callable[[], bool], monitor: WorkerMonitor, source: Asked, pipeline: InstrumentedPipeline
) -> None:
    task = asyncio.create_task(monitor.run(source, pipeline))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task})


async def test_a_group_that_shares_out_is_not_ready_and_a_silent_broker_is_away(made: Made) -> None:
    monitor, pipeline = made
    health = monitor.health
    await run_until(lambda: health.beats > 2, monitor, Asked([None]), pipeline)
    assert health.unready() == ["partitions are not shared out yet"]
    await run_until(lambda: health.settled, monitor, Asked([{PLACE: PartitionLag(2, 5)}]), pipeline)
    assert (health.lag, health.unready()) == (3, [])
    await run_until(lambda: bool(health.away), monitor, Asked([UnavailableError("no answer")]), pipeline)
    assert "broker away" in health.unready()[0]
    await run_until(lambda: not health.away, monitor, Asked([{}]), pipeline)
    assert health.unready() == []


async def test_ends_that_no_record_has_do_not_hold_silences_up(made: Made) -> None:
    """The mark of a transaction is the last offset: position and end agree on it, the pipeline never sees it."""
    monitor, pipeline = made
    silences = pipeline._silences[PLACE]

    def observe_end_offset() -> bool:
        pipeline.flush(monitor._clock.monotonic_s())
        return silences.heard_s is not None

    await run_until(observe_end_offset, monitor, Asked([{PLACE: PartitionLag(7, 7)}]), pipeline)
