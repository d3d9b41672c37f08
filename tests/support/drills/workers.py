"""Worker processes, forked from a process that has imported everything: a start costs no imports."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.support.services.process import PATIENCE_S

__all__ = ["Crew", "Worker"]

_PRELOAD = (
    "stream_ad.cli",
    "stream_ad.runtime.worker",
    "stream_ad_models.imputer.imputer",
    "stream_ad_models.scorer.imputation_scorer",
    "stream_ad_connectors.influxdb.store",
    "stream_ad_connectors.kafka.sink",
    "stream_ad_connectors.kafka.source",
    "stream_ad_connectors.kafka.state_store",
    "stream_ad_connectors.profile_store.store",
    "stream_ad_connectors.sqlite.store",
    "tests.support.drills.workers",
)
_GRACE_S = 30.0  # from SIGTERM to SIGKILL, as a supervisor has it


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOAD))
    return context


def _work(drill: int, home: str, environment: dict[str, str], log: str) -> None:
    """`stream-ad worker` in `home`; it is killed as soon as the process `drill` ends."""
    threading.Thread(target=_die_with, args=(os.pidfd_open(drill),), daemon=True).start()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.path[:] = [os.path.abspath(entry) for entry in sys.path]
    os.chdir(home)
    os.environ.update(environment)
    sys.argv = ["stream-ad", "worker"]
    from stream_ad.cli import main

    main()


def _die_with(process: int) -> None:
    select.select([process], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


class Worker:
    """One process. Safe to use from several threads."""

    def __init__(self, home: Path, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.asked = False  # the drill has asked it to end
        self._lock = threading.Lock()
        arguments = (os.getpid(), str(home), dict(environment), str(log))
        self._process = _context().Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def exit_code(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        if self.exit_code() is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int | None:
        deadline = time.monotonic() + timeout_s
        while (code := self.exit_code()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return code

    def kill(self) -> None:
        self.asked = True
        self.signal(signal.SIGKILL)
        self.wait(PATIENCE_S)

    def ask(self) -> None:
        """Send SIGTERM, once: a second one would end it without a clean shutdown."""
        if not self.asked:
            self.asked = True
            self.signal(signal.SIGTERM)

    def ended(self) -> int | None:
        """Exit code after `ask`; None when it had to be killed."""
        code = self.wait(_GRACE_S)
        if code is None:
            self.kill()
        return code

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Crew:
    """The workers of one job and their supervisor, which restarts one that gives up."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = environment
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self.running: list[Worker] = []
        self.ended: list[Worker] = []
        self.gave_up: list[str] = []  # the last line of each that ended by itself
        self.not_in_time = 0
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    def add(self) -> Worker:
        with self._lock:
            number = len(self.running) + len(self.ended)
            worker = Worker(self._home, self._environment, self._home / f"worker-{number}.log")
            self.running.append(worker)
            return worker

    def pick(self, chance: float) -> Worker:
        """Wait for a running worker; 0 <= chance < 1 chooses among several."""
        while True:
            with self._lock:
                if self.running:
                    return self.running[int(chance * len(self.running))]
            time.sleep(0.05)

    def dismiss(self, worker: Worker, *, gently: bool) -> bool:
        """End the worker; False when it has ended or is being ended already."""
        with self._lock:
            if worker.asked or worker not in self.running:
                return False
            if gently:
                worker.ask()
            else:
                worker.asked = True
        if gently:
            self.not_in_time += worker.ended() is None
        else:
            worker.kill()
        self._forget(worker)
        return True

    def close(self) -> list[int | None]:
        """End all workers; their exit codes. A second call does nothing."""
        self._ending.set()
        self._supervisor.join()
        for worker in self.running:
            worker.ask()
        codes = [worker.ended() for worker in self.running]
        for worker in list(self.running):
            self._forget(worker)
        return codes

    def tracebacks(self) -> list[str]:
        """The tails of logs that show an unexpected error.

        Trap: traces after the stop request come from faust's own thread, whose broker is down; no data depend on it.
        """
        signs = ("Traceback (most recent", "this was not expected")
        every = [worker.text().partition("IngestService]: Stopping")[0] for worker in (*self.ended, *self.running)]
        return [text[-3000:] for text in every if any(sign in text for sign in signs)]

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            if worker in self.running:
                self.running.remove(worker)
                self.ended.append(worker)

    def _supervise(self) -> None:
        while not self._ending.wait(1.0):
            with self._lock:
                gone = [w for w in self.running if not w.asked and w.exit_code() is not None]
                for worker in gone:
                    last = (worker.text().strip().splitlines() or [""])[-1]
                    self.gave_up.append(f"{worker.exit_code()}: {last[:300]}")
                    self._forget(worker)
                    self.add()
