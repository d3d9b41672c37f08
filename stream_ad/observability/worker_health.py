"""Health of one worker: written by its components, read by the watchdog, the endpoints and the metrics.

Several threads read and write it without a lock: every attribute is replaced as a whole, never changed in place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from stream_ad.ports import Clock, PartitionLag
from stream_ad.records import Partition

__all__ = ["Action", "Outage", "WorkerHealth"]


@dataclass(frozen=True, slots=True)
class Action:
    """A call in progress since `since_s` (monotonic)."""

    what: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A dependency that has been unavailable since `since_s` (monotonic), and its last error."""

    since_s: float
    reason: str


@dataclass
class WorkerHealth:
    """Liveness counters and state of a worker.

    heartbeats: event-loop ticks; progress: completed units of work. A counter that stops is a stall.
    assignment_stable: the rebalance is complete. lags: of the assigned partitions. newest_ns: newest event time read.
    replaying: records below the committed offset are being read again. notifications_waiting: unsent events per route.
    stalled: the watchdog's reason, "" while the worker is healthy. down: dependencies that are unavailable.
    """

    clock: Clock
    progress: int = 0
    heartbeats: int = 0
    assignment_stable: bool = False
    replaying: bool = False
    partitions: frozenset[Partition] = frozenset()
    lags: Mapping[Partition, PartitionLag] = field(default_factory=dict)
    newest_ns: Mapping[Partition, int] = field(default_factory=dict)
    series: int = 0
    notifications_waiting: Mapping[str, int] = field(default_factory=dict)
    stalled: str = ""
    down: Mapping[str, Outage] = field(default_factory=dict)
    actions: Mapping[int, Action] = field(default_factory=dict)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record_progress(self) -> None:
        self.progress += 1

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Registers an action while it runs, so that a stall can be explained."""
        with self._lock:
            self._count += 1
            number = self._count
            self.actions = {**self.actions, number: Action(what, self.clock.monotonic_s())}
        try:
            yield
        finally:
            with self._lock:
                self.actions = {key: action for key, action in self.actions.items() if key != number}

    def dependency_down(self, name: str, reason: str) -> None:
        with self._lock:
            since_s = self.down[name].since_s if name in self.down else self.clock.monotonic_s()
            self.down = {**self.down, name: Outage(since_s, reason)}

    def dependency_up(self, name: str) -> None:
        if name in self.down:
            with self._lock:
                self.down = {key: outage for key, outage in self.down.items() if key != name}

    @property
    def lag(self) -> int:
        """Unread records of all assigned partitions."""
        return sum(one.lag for one in self.lags.values())

    def oldest_action(self) -> Action | None:
        return min(self.actions.values(), key=lambda action: action.since_s, default=None)

    def outages(self) -> list[str]:
        """One sentence for each dependency that is down."""
        now_s = self.clock.monotonic_s()
        return [f"{name} down for {now_s - one.since_s:.0f} s: {one.reason}" for name, one in self.down.items()]

    def unready(self) -> list[str]:
        """Reasons why this worker does not score now; empty when it does."""
        reasons = [self.stalled] if self.stalled else []
        if not self.assignment_stable:
            reasons.append("partitions are not assigned yet")
        elif self.replaying:
            reasons.append("replaying records to rebuild the window buffers")
        return reasons + self.outages()
