"""A thread that turns a silent stall into an unhealthy state, and then ends the process so that it is restarted."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress

from stream_ad.durations import duration_ns
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.settings import ObservabilitySettings

__all__ = ["EXIT_CODE", "Watchdog", "all_stacks", "end_process"]

EXIT_CODE = 1
TICK_S = 1.0
TASK_FRAMES = 8

log = logging.getLogger(__name__)


class Watchdog(threading.Thread):
    """Checks the liveness counters once a second and calls `exit_worker` once, with the reason.

    A stall is either an event loop that stops, or unread records or a running action without progress for
    `stall_after`. An unavailable dependency is no stall, however long, unless `give_up_after` limits it.
    A check counts at most two ticks of time, so that a suspended process is not reported as stalled.
    """

    def __init__(
        self, health: WorkerHealth, settings: ObservabilitySettings, exit_worker: Callable[[str], None]
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._health = health
        self._stall_s = duration_ns(settings.stall_after) / 1e9
        self._exit_s = self._stall_s + duration_ns(settings.exit_after) / 1e9
        self._outage_limit_s = duration_ns(settings.give_up_after) / 1e9 if settings.give_up_after else None
        self._exit_worker = exit_worker
        self._ended = threading.Event()
        self._checked_s = health.clock.monotonic_s()
        self._last_counters = (0, 0)
        self._loop_stopped_s = self._no_progress_s = self._outage_s = 0.0

    def run(self) -> None:
        while not self._ended.wait(TICK_S):
            reason = self.check()
            if reason:
                self._exit_worker(reason)
                return

    def stop(self) -> None:
        self._ended.set()

    def check(self) -> str:
        """Updates `health.stalled`. Returns the reason to end the process, "" while there is none."""
        health, now_s = self._health, self._health.clock.monotonic_s()
        elapsed_s = min(now_s - self._checked_s, 2 * TICK_S)
        heartbeats, progress = self._last_counters
        self._checked_s, self._last_counters = now_s, (health.heartbeats, health.progress)
        outages, work = health.outages(), self._work()
        loop_stopped = heartbeats and health.heartbeats == heartbeats
        no_progress = work and not outages and health.progress == progress
        self._loop_stopped_s = self._loop_stopped_s + elapsed_s if loop_stopped else 0.0
        self._no_progress_s = self._no_progress_s + elapsed_s if no_progress else 0.0
        self._outage_s = self._outage_s + elapsed_s if outages else 0.0
        stalled = self._reason(work)
        if stalled and not health.stalled:
            log.error("stalled: %s", stalled)
        elif health.stalled and not stalled:
            log.warning("no longer stalled")
        health.stalled = stalled
        if stalled and max(self._loop_stopped_s, self._no_progress_s) >= self._exit_s:
            return stalled
        if self._outage_limit_s is not None and self._outage_s >= self._outage_limit_s:
            return "; ".join(outages)
        return ""

    def _work(self) -> str:
        """Unread records and the oldest running action as text; "" when the worker has nothing to do."""
        work = [f"{one.lag} unread records in {t}/{p}" for (t, p), one in self._health.lags.items() if one.lag]
        action = self._health.oldest_action()
        if action is not None:
            work.append(f"{action.what} for {self._health.clock.monotonic_s() - action.since_s:.0f} s")
        return ", ".join(work)

    def _reason(self, work: str) -> str:
        if self._loop_stopped_s >= self._stall_s:
            return f"the event loop has not run for {self._loop_stopped_s:.0f} s" + (f"; {work}" if work else "")
        if self._no_progress_s >= self._stall_s:
            return f"no progress for {self._no_progress_s:.0f} s; {work}"
        return ""


def end_process(loop: asyncio.AbstractEventLoop) -> Callable[[str], None]:
    """How a watchdog ends its worker: it logs the reason and every stack, then exits.

    Nothing is closed: the stuck component would block that, and records without durable outputs are replayed anyway.
    """

    def end(reason: str) -> None:
        log.critical("exiting, to be restarted by a supervisor: %s\n%s", reason, all_stacks(loop))
        os._exit(EXIT_CODE)

    return end


def all_stacks(loop: asyncio.AbstractEventLoop) -> str:
    """The stack of every thread and every asyncio task."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        with suppress(RuntimeError):  # tasks come and go while they are listed
            for task in asyncio.all_tasks(loop):
                task.print_stack(limit=TASK_FRAMES, file=file)
        file.seek(0)
        return file.read()
