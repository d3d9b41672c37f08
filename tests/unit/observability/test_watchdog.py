"""What the watchdog holds for a stall, what not, and when it gives up; clock and time are the test's own."""

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
    """A worker whose event loop turns, looked at once a second."""

    settings: ObservabilitySettings = SETTINGS
    clock: HandClock = field(default_factory=HandClock)
    beating: bool = True

    def __post_init__(self) -> None:
        self.health = WorkerHealth(self.clock, settled=True)
        self.watchdog = Watchdog(self.health, self.settings, lambda reason: None)

    def run(self, seconds: int, *, steps: bool = False) -> str:
        """The reason to end, at the first second there is one."""
        for _ in range(seconds):
            self.clock.at_s += 1
            self.health.beats += self.beating
            self.health.steps += steps
            reason = self.watchdog.look()
            if reason:
                return reason
        return ""


def test_records_to_read_and_no_step_is_a_stall_and_then_the_end() -> None:
    case = Case()
    case.run(3)
    case.health.lags = BEHIND
    assert case.run(9) == ""
    assert health(case.health)[0] == 200
    case.run(2)
    status, body = health(case.health)
    assert (status, body["status"]) == (503, "stalled")
    assert "3 records to read in t/0" in case.health.stalled
    assert readiness(case.health)[0] == 503
    reason = case.run(10)
    assert "nothing has moved on for 15 s" in reason


def test_a_call_that_never_returns_is_a_stall_without_any_lag() -> None:
    case = Case()
    case.run(2)
    with case.health.doing("writing to influxdb"):
        assert "writing to influxdb under way for" in case.run(30)


def test_steps_end_a_stall() -> None:
    case = Case()
    case.health.lags = BEHIND
    case.run(12)
    assert case.health.stalled
    case.run(1, steps=True)
    assert health(case.health) == (200, {"status": "ok", "reasons": []})
    assert case.run(60, steps=True) == ""


def test_a_worker_that_has_nothing_to_do_is_well() -> None:
    case = Case()
    assert case.run(500) == ""
    assert readiness(case.health)[0] == 200


def test_a_loop_that_does_not_turn_is_a_stall_whatever_else() -> None:
    case = Case()
    case.run(2)
    case.health.lost("influxdb", "refused")
    case.beating = False
    assert "the event loop has not turned for 15 s" in case.run(60)


def test_waiting_for_a_service_is_no_stall_but_is_said() -> None:
    case = Case()
    case.run(2)
    case.health.lags = BEHIND
    case.health.lost("influxdb", "refused")
    with case.health.doing("writing to influxdb"):
        assert case.run(1000) == ""
    assert health(case.health) == (200, {"status": "waiting", "reasons": ["influxdb away for 1000 s: refused"]})
    assert readiness(case.health)[0] == 503
    case.health.found("influxdb")
    assert readiness(case.health)[0] == 200


def test_give_up_after_ends_a_worker_whose_service_stays_away() -> None:
    case = Case(SETTINGS.model_copy(update={"give_up_after": "20s"}))
    case.health.lost("broker", "no answer")
    assert case.run(19) == ""
    assert "broker away for 20 s: no answer" in case.run(2)


def test_a_suspended_process_is_not_blamed_for_its_suspension() -> None:
    case = Case()
    case.run(2)
    case.health.lags = BEHIND
    case.clock.at_s += 3600
    assert case.run(5) == ""
    assert not case.health.stalled


def test_the_thread_calls_once_and_ends() -> None:
    told: list[str] = []
    clock = HandClock()
    health = WorkerHealth(clock, settled=True, beats=1)
    watchdog = Watchdog(health, SETTINGS.model_copy(update={"stall_after": "1ms", "exit_after": "1ms"}), told.append)
    watchdog._seen = (1, 0)  # the loop has turned before
    clock.at_s += 2
    watchdog.start()
    watchdog.join(20)
    assert len(told) == 1


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
