"""What the watchdog reports as a stall, what not, and when it ends the process; the test moves the clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from stream_ad.observability.endpoints import health, readiness
from stream_ad.observability.watchdog import Watchdog, all_stacks
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.ports import PartitionLag
from stream_ad.settings import ObservabilitySettings

BEHIND = {("t", 0): PartitionLag(7, 10)}
SETTINGS = ObservabilitySettings(stall_after="10s", exit_after="5s", give_up_after=None)


@dataclass
class HandClock:
    at_s: float = 100.0

    def now_ns(self) -> int:
        return int(self.at_s * 1e9)

    def monotonic_s(self) -> float:
        return self.at_s


@dataclass
class Case:
    """A worker whose event loop runs, checked once a second."""

    settings: ObservabilitySettings = SETTINGS
    clock: HandClock = field(default_factory=HandClock)
    loop_runs: bool = True

    def __post_init__(self) -> None:
        self.health = WorkerHealth(self.clock, assignment_stable=True)
        self.watchdog = Watchdog(self.health, self.settings, lambda reason: None)

    def run(self, seconds: int, *, progress: bool = False) -> str:
        """The first reason to end the process."""
        for _ in range(seconds):
            self.clock.at_s += 1
            self.health.heartbeats += self.loop_runs
            self.health.progress += progress
            reason = self.watchdog.check()
            if reason:
                return reason
        return ""


def test_lag_without_progress_is_a_stall_then_an_exit() -> None:
    case = Case()
    case.run(3)
    case.health.lags = BEHIND
    assert case.run(9) == ""
    assert health(case.health)[0] == 200
    case.run(2)
    status, body = health(case.health)
    assert (status, body["status"]) == (503, "stalled")
    assert "3 unread records in t/0" in case.health.stalled
    assert readiness(case.health)[0] == 503
    reason = case.run(10)
    assert "no progress for 15 s" in reason


def test_a_call_that_never_returns_is_a_stall() -> None:
    case = Case()
    case.run(2)
    with case.health.doing("writing to influxdb"):
        assert "writing to influxdb for" in case.run(30)


def test_progress_ends_a_stall() -> None:
    case = Case()
    case.health.lags = BEHIND
    case.run(12)
    assert case.health.stalled
    case.run(1, progress=True)
    assert health(case.health) == (200, {"status": "ok", "reasons": []})
    assert case.run(60, progress=True) == ""


def test_an_idle_worker_is_healthy() -> None:
    case = Case()
    assert case.run(500) == ""
    assert readiness(case.health)[0] == 200


def test_a_stopped_event_loop_is_a_stall_even_in_an_outage() -> None:
    case = Case()
    case.run(2)
    case.health.dependency_down("influxdb", "refused")
    case.loop_runs = False
    assert "the event loop has not run for 15 s" in case.run(60)


def test_an_outage_is_reported_and_is_no_stall() -> None:
    case = Case()
    case.run(2)
    case.health.lags = BEHIND
    case.health.dependency_down("influxdb", "refused")
    with case.health.doing("writing to influxdb"):
        assert case.run(1000) == ""
    assert health(case.health) == (200, {"status": "waiting", "reasons": ["influxdb down for 1000 s: refused"]})
    assert readiness(case.health)[0] == 503
    case.health.dependency_up("influxdb")
    assert readiness(case.health)[0] == 200


def test_give_up_after_limits_an_outage() -> None:
    case = Case(SETTINGS.model_copy(update={"give_up_after": "20s"}))
    case.health.dependency_down("broker", "no answer")
    assert case.run(19) == ""
    assert "broker down for 20 s: no answer" in case.run(2)


def test_a_suspended_process_is_not_stalled() -> None:
    case = Case()
    case.run(2)
    case.health.lags = BEHIND
    case.clock.at_s += 3600
    assert case.run(5) == ""
    assert not case.health.stalled


def test_the_thread_calls_exit_once() -> None:
    reasons: list[str] = []
    clock = HandClock()
    health = WorkerHealth(clock, assignment_stable=True, heartbeats=1)
    watchdog = Watchdog(health, SETTINGS.model_copy(update={"stall_after": "1ms", "exit_after": "1ms"}), reasons.append)
    watchdog._last_counters = (1, 0)  # the loop has run before
    clock.at_s += 2
    watchdog.start()
    watchdog.join(240)
    assert len(reasons) == 1


async def test_stacks_name_threads_and_tasks() -> None:
    async def stuck_in_a_test() -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(stuck_in_a_test())
    await asyncio.sleep(0)
    text = await asyncio.to_thread(all_stacks, asyncio.get_running_loop())
    task.cancel()
    assert "stuck_in_a_test" in text
    assert "Thread 0x" in text
    with pytest.raises(asyncio.CancelledError):
        await task
