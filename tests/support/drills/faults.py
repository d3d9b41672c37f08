"""The kinds of faults, and schedules of them that overlap."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

from tests.support.drills.workers import Crew
from tests.support.drills.world import SmallDisk, World

__all__ = ["SESSION_S", "Fault", "Stage", "burst", "kinds"]

SESSION_S = 4.0  # session timeout of the consumer group
_WORKER_HOLDS = {
    "kill": (0.0, 2.0),
    "terminate": (0.0, 2.0),
    "suspend": (SESSION_S + 1, SESSION_S + 4),
    "join and leave": (2.0, 8.0),
}
_KAFKA_HOLDS = {
    "broker stopped": (0.0, 3.0),
    "broker killed": (0.0, 2.0),
    "broker silent": (1.0, 6.0),
    "broker cut off": (0.2, 3.0),
    "broker slow": (2.0, 6.0),
    "broker connections reset": (0.1, 1.0),
}
_STORE_HOLDS = {
    "store stopped": (0.0, 3.0),
    "store silent": (1.0, 6.0),
    "store cut off": (0.2, 3.0),
    "store slow": (2.0, 6.0),
    "store answers 429": (1.0, 4.0),
    "store answers 503": (1.0, 4.0),
    "store's answers lost": (0.3, 2.0),
}
_DISK_HOLDS = {"disk full": (1.0, 6.0)}


@dataclass(frozen=True, slots=True)
class Fault:
    """start_s: seconds after the start of the burst; hold_s: its duration; 0 <= chance < 1 picks the victim."""

    kind: str
    start_s: float
    hold_s: float
    chance: float


def kinds(*, embedded: bool) -> Mapping[str, tuple[float, float]]:
    """Kind -> shortest and longest duration in seconds; the embedded store has a disk in place of a server."""
    return {**_WORKER_HOLDS, **_KAFKA_HOLDS, **(_DISK_HOLDS if embedded else _STORE_HOLDS)}


def burst(
    rng: random.Random, names: list[str], durations: Mapping[str, tuple[float, float]], span_s: float
) -> list[Fault]:
    """One fault for each name, at random times within span_s."""
    faults = [Fault(name, rng.uniform(0, span_s), rng.uniform(*durations[name]), rng.random()) for name in names]
    return sorted(faults, key=lambda fault: fault.start_s)


@dataclass
class Stage:
    """The targets of faults. Faults of one server, link or answer run one after the other; all others overlap."""

    world: World
    crew: Crew
    disk: SmallDisk | None = None
    _locks: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def play(self, faults: list[Fault]) -> None:
        """Run the faults at their times and return when all are over; the first error of one is raised."""
        begun = time.monotonic()
        errors: list[BaseException] = []

        def one(fault: Fault) -> None:
            time.sleep(max(0.0, begun + fault.start_s - time.monotonic()))
            try:
                self._acts[fault.kind](fault)
            except Exception as error:  # noqa: BLE001 (raised below, in the caller's thread)
                errors.append(error)

        threads = [threading.Thread(target=one, args=(fault,), daemon=True) for fault in faults]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    @property
    def _acts(self) -> Mapping[str, Callable[[Fault], None]]:
        return {
            "kill": lambda fault: self._replace(fault, gently=False),
            "terminate": lambda fault: self._replace(fault, gently=True),
            "suspend": self._suspend,
            "join and leave": self._join,
            "broker stopped": lambda fault: self._restart("broker", fault, kill=False),
            "broker killed": lambda fault: self._restart("broker", fault, kill=True),
            "broker silent": lambda fault: self._pause("broker", fault),
            "broker cut off": lambda fault: self._cut("kafka", fault),
            "broker slow": lambda fault: self._slow("kafka", fault),
            "broker connections reset": self._reset,
            "store stopped": lambda fault: self._restart("store", fault, kill=False),
            "store silent": lambda fault: self._pause("store", fault),
            "store cut off": lambda fault: self._cut("store", fault),
            "store slow": lambda fault: self._slow("store", fault),
            "store answers 429": lambda fault: self._refuse(429, fault),
            "store answers 503": lambda fault: self._refuse(503, fault),
            "store's answers lost": self._lose,
            "disk full": self._fill,
        }

    def _replace(self, fault: Fault, *, gently: bool) -> None:
        victim = self.crew.pick(fault.chance)
        if self.crew.dismiss(victim, gently=gently):
            time.sleep(fault.hold_s)
            self.crew.add()

    def _suspend(self, fault: Fault) -> None:
        """For longer than the session timeout."""
        victim = self.crew.pick(fault.chance)
        victim.signal(signal.SIGSTOP)
        time.sleep(fault.hold_s)
        victim.signal(signal.SIGCONT)

    def _join(self, fault: Fault) -> None:
        guest = self.crew.add()
        time.sleep(fault.hold_s)
        while not self.crew.dismiss(guest, gently=True):  # another fault has replaced it
            guest = self.crew.pick(fault.chance)

    def _restart(self, name: str, fault: Fault, *, kill: bool) -> None:
        server = self.world.broker if name == "broker" else self.world.store
        with self._locks[name]:
            if kill:
                server.kill()
            else:
                server.stop()
            time.sleep(fault.hold_s)
            server.start()

    def _pause(self, name: str, fault: Fault) -> None:
        server = self.world.broker if name == "broker" else self.world.store
        with self._locks[name]:
            server.pause()
            time.sleep(fault.hold_s)
            server.resume()

    def _cut(self, name: str, fault: Fault) -> None:
        link = self.world.kafka_link if name == "kafka" else self.world.store_link
        with self._locks[f"{name} link"]:
            link.cut()
            time.sleep(fault.hold_s)
            link.restore()

    def _slow(self, name: str, fault: Fault) -> None:
        """Half of them add latency, half limit the bandwidth."""
        link = self.world.kafka_link if name == "kafka" else self.world.store_link
        if fault.chance < 0.5:
            delay_ms = int(200 + 2000 * fault.chance)
            toxic = link.add("latency", "downstream", latency=delay_ms, jitter=delay_ms // 2)
        else:
            toxic = link.add("bandwidth", "upstream", rate=int(100 * fault.chance))  # kB/s
        time.sleep(fault.hold_s)
        link.remove(toxic)

    def _reset(self, fault: Fault) -> None:
        toxic = self.world.kafka_link.add("reset_peer", "downstream", timeout=int(200 * fault.chance))
        time.sleep(fault.hold_s)
        self.world.kafka_link.remove(toxic)

    def _refuse(self, status: int, fault: Fault) -> None:
        """Retry-After in seconds, or as a date."""
        with self._locks["answers"]:
            until = "1" if fault.chance < 0.5 else formatdate(time.time() + 2, usegmt=True)
            self.world.http.refuse = (status, until)
            time.sleep(fault.hold_s)
            self.world.http.refuse = None

    def _lose(self, fault: Fault) -> None:
        with self._locks["answers"]:
            self.world.http.lose = True
            time.sleep(fault.hold_s)
            self.world.http.lose = False

    def _fill(self, fault: Fault) -> None:
        with self._locks["disk"]:
            if self.disk is None:
                raise RuntimeError("expected a small disk for the fault 'disk full', found none")
            self.disk.fill()
            time.sleep(fault.hold_s)
            self.disk.free()
