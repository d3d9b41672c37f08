"""What the monitor does while a worker runs: it measures the lag and the assignment, and trims free memory."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil
import pytest
from stream_ad_connectors.host.clock import SystemClock

import stream_ad.observability.monitor as module
from stream_ad.errors import UnavailableError
from stream_ad.observability.monitor import WorkerMonitor, trim_malloc
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Checkpoint, PartitionLag
from tests.support.fakes import LevelScorer, MemoryProfiles
from tests.unit.detection.test_absence import settings

PLACE = ("t", 0)
Made = tuple[WorkerMonitor, Pipeline]
Answer = Mapping[tuple[str, int], PartitionLag] | None | UnavailableError


@dataclass
class LagSource:
    """A source that only reports its lag; the last answer repeats."""

    answers: list[Answer]

    async def lags(self) -> Mapping[tuple[str, int], PartitionLag] | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, UnavailableError):
            raise answer
        return answer


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(module, "MEASURE_S", 0.001)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.001)
    monitor = WorkerMonitor(settings("1s"), SystemClock())
    pipeline = monitor.pipeline(settings("1s"), LevelScorer(), MemoryProfiles())  # type: ignore[arg-type]
    pipeline.assign(*PLACE, {}, Checkpoint(0, 0))
    return monitor, pipeline


async def run_until(ready: Callable[[], bool], monitor: WorkerMonitor, source: LagSource, pipeline: Pipeline) -> None:
    task = asyncio.create_task(monitor.run(source, pipeline))  # type: ignore[arg-type]
    async with asyncio.timeout(240):
        while not ready():
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task})


async def test_a_rebalance_is_not_ready_and_a_silent_broker_is_down(made: Made) -> None:
    monitor, pipeline = made
    health = monitor.health
    await run_until(lambda: health.heartbeats > 2, monitor, LagSource([None]), pipeline)
    assert health.unready() == ["partitions are not assigned yet"]
    await run_until(lambda: health.assignment_stable, monitor, LagSource([{PLACE: PartitionLag(2, 5)}]), pipeline)
    assert (health.lag, health.unready()) == (3, [])
    await run_until(lambda: bool(health.down), monitor, LagSource([UnavailableError("no answer")]), pipeline)
    assert "broker down" in health.unready()[0]
    await run_until(lambda: not health.down, monitor, LagSource([{}]), pipeline)
    assert health.unready() == []


async def test_transaction_markers_do_not_delay_absence_alerts(made: Made) -> None:
    """The last offset is a transaction marker: position and end agree on it, the pipeline never sees it."""
    monitor, pipeline = made
    absence = pipeline._partitions[PLACE].absence

    def caught_up() -> bool:
        pipeline.flush(monitor._clock.monotonic_s())
        return absence.caught_up_s is not None

    await run_until(caught_up, monitor, LagSource([{PLACE: PartitionLag(7, 7)}]), pipeline)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_free_heap_pages_return_to_the_system() -> None:
    process = psutil.Process()
    blocks = [bytes(4096) for _ in range(20_000)]
    stays = blocks[::16]
    del blocks
    before = process.memory_info().rss
    trim_malloc()
    assert before - process.memory_info().rss > 40_000_000
    assert len(stays) == 1250
