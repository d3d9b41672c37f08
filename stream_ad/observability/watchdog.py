"""A thread that turns a silent stall into an unhealthy state, and that into an end which a supervisor can act on."""

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
    """Looks once a second; `give_up` is called with the reason, once.

    Stalled are: an event loop that does not turn; records to read, or something under way, and no step for
    `stall_after`. Waiting for a service that is away is neither, however long, unless `give_up_after` says so.
    Time counts by looks, at most two ticks for each, so that a suspended process is not blamed for its suspension.
    """

    def __init__(self, health: WorkerHealth, settings: ObservabilitySettings, give_up: Callable[[str], None]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._vitals = health
        self._stall_s = duration_ns(settings.stall_after) / 1e9
        self._exit_s = self._stall_s + duration_ns(settings.exit_after) / 1e9
        self._away_limit_s = duration_ns(settings.give_up_after) / 1e9 if settings.give_up_after else None
        self._give_up = give_up
        self._ended = threading.Event()
        self._looked_s = health.clock.monotonic_s()
        self._seen = (0, 0)
        self._still_s = self._idle_s = self._away_s = 0.0

    def run(self) -> None:
        while not self._ended.wait(TICK_S):
            reason = self.look()
            if reason:
                self._give_up(reason)
                return

    def stop(self) -> None:
        self._ended.set()

    def look(self) -> str:
        """Marks a stall in the vitals; why the process has to end, "" while it has not."""
        health, now_s = self._vitals, self._vitals.clock.monotonic_s()
        passed_s = min(now_s - self._looked_s, 2 * TICK_S)
        beats, steps = self._seen
        self._looked_s, self._seen = now_s, (health.beats, health.steps)
        waiting, work = health.waiting(), self._work()
        self._still_s = self._still_s + passed_s if beats and health.beats == beats else 0.0
        self._idle_s = self._idle_s + passed_s if work and not waiting and health.steps == steps else 0.0
        self._away_s = self._away_s + passed_s if waiting else 0.0
        stalled = self._reason(work)
        if stalled and not health.stalled:
            log.error("stalled: %s", stalled)
        elif health.stalled and not stalled:
            log.warning("not stalled any more")
        health.stalled = stalled
        if stalled and max(self._still_s, self._idle_s) >= self._exit_s:
            return stalled
        if self._away_limit_s is not None and self._away_s >= self._away_limit_s:
            return "; ".join(waiting)
        return ""

    def _work(self) -> str:
        """What there is to do, in words."""
        words = [f"{one.lag} records to read in {t}/{p}" for (t, p), one in self._vitals.lags.items() if one.lag]
        action = self._vitals.oldest_action()
        if action is not None:
            words.append(f"{action.what} under way for {self._vitals.clock.monotonic_s() - action.since_s:.0f} s")
        return ", ".join(words)

    def _reason(self, work: str) -> str:
        if self._still_s >= self._stall_s:
            return f"the event loop has not turned for {self._still_s:.0f} s" + (f"; {work}" if work else "")
        if self._idle_s >= self._stall_s:
            return f"nothing has moved on for {self._idle_s:.0f} s; {work}"
        return ""


def end_process(loop: asyncio.AbstractEventLoop) -> Callable[[str], None]:
    """What a worker's watchdog does in the end: the reason and all stacks into the log, then out.

    Nothing is closed: what is stuck would hold that up, and what is not durable is read again.
    """

    def end(reason: str) -> None:
        log.critical("giving up, to be started again: %s\n%s", reason, all_stacks(loop))
        os._exit(EXIT_CODE)

    return end


def all_stacks(loop: asyncio.AbstractEventLoop) -> str:
    """Where every thread and every task is."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        with suppress(RuntimeError):  # tasks come and go while they are listed
            for task in asyncio.all_tasks(loop):
                task.print_stack(limit=TASK_FRAMES, file=file)
        file.seek(0)
        return file.read()
