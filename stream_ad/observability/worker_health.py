"""What a worker knows of its own state: written by the parts at work, read by watchdog, health and metrics.

Written and read by several threads without a lock: every attribute is replaced whole, never changed in place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from stream_ad.ports import Clock, PartitionLag

__all__ = ["Action", "Away", "WorkerHealth"]

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Action:
    """Something under way since `since_s` (monotonic)."""

    what: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Away:
    """Something outside that has not answered since `since_s` (monotonic), and what it said last."""

    since_s: float
    reason: str


@dataclass
class WorkerHealth:
    """steps counts what moves the work on, beats the turns of the event loop: a number that stands still tells.

    settled: the group has shared its partitions out. standing: what is left to read. newest_ns: newest event time read.
    restoring: records that were answered for are being read again. to_notify: alert events a route still has to tell.
    stalled: why the watchdog holds the worker for
    stuck, "" when it does not.
    """

    clock: Clock
    steps: int = 0
    beats: int = 0
    settled: bool = False
    restoring: bool = False
    partitions: frozenset[Partition] = frozenset()
    lags: Mapping[Partition, PartitionLag] = field(default_factory=dict)
    newest_ns: Mapping[Partition, int] = field(default_factory=dict)
    series: int = 0
    to_notify: Mapping[str, int] = field(default_factory=dict)
    stalled: str = ""
    away: Mapping[str, Away] = field(default_factory=dict)
    actions: Mapping[int, Action] = field(default_factory=dict)
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self) -> None:
        """The work moved on."""
        self.steps += 1

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Names what is under way, for who asks why nothing moves."""
        with self._lock:
            self._count += 1
            number = self._count
            self.actions = {**self.actions, number: Action(what, self.clock.monotonic_s())}
        try:
            yield
        finally:
            with self._lock:
                self.actions = {key: action for key, action in self.actions.items() if key != number}

    def lost(self, part: str, reason: str) -> None:
        """`part` does not answer; what needs it waits."""
        with self._lock:
            since_s = self.away[part].since_s if part in self.away else self.clock.monotonic_s()
            self.away = {**self.away, part: Away(since_s, reason)}

    def found(self, part: str) -> None:
        """`part` answers."""
        if part in self.away:
            with self._lock:
                self.away = {name: away for name, away in self.away.items() if name != part}

    @property
    def lag(self) -> int:
        """Records there are to read."""
        return sum(one.lag for one in self.lags.values())

    def oldest_action(self) -> Action | None:
        return min(self.actions.values(), key=lambda action: action.since_s, default=None)

    def waiting(self) -> list[str]:
        """What is waited for, in words; empty when everything answers."""
        now_s = self.clock.monotonic_s()
        return [f"{part} away for {now_s - one.since_s:.0f} s: {one.reason}" for part, one in self.away.items()]

    def unready(self) -> list[str]:
        """Why this worker does not score now, in words; empty when it does."""
        reasons = [self.stalled] if self.stalled else []
        if not self.settled:
            reasons.append("partitions are not shared out yet")
        elif self.restoring:
            reasons.append("reading back what the windows need")
        return reasons + self.waiting()
