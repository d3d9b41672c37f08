"""Event time to slots: the slot of an observation on its series' grid, and which slots are closed.

Pure: the results depend on the observations in their order alone, never on a clock or on the cut into polls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "Placement", "infer_step_ns"]

MIN_INFER_TIMES = 8
_ROUND = (1, 2, 5, 10, 12, 15, 20, 25, 30, 50)


class Placement(Enum):
    """Whether an observation may still change its slot."""

    OPEN = "open"  # the slot is open
    REVISION = "revision"  # the slot is closed, but late data may still revise it
    LATE = "late"  # too late, or before the series' first slot: nothing changes


def infer_step_ns(times_ns: Iterable[int]) -> int | None:
    """The step of observations at `times_ns` (any order, repeats allowed); None below 8 distinct times.

    The median of the differences, rounded to a common interval (1, 2, 5, 10, 12 ... ms, s or min) within 5%: clock
    jitter must not make the grid drift against the sensor.
    """
    distinct = np.unique(np.fromiter(times_ns, dtype=np.int64))
    if len(distinct) < MIN_INFER_TIMES:
        return None
    median = int(np.median(np.diff(distinct)))
    units = (1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000)
    candidates = [unit * factor * scale for unit in units for factor in _ROUND for scale in (1, 10)]
    nearest = min(candidates, key=lambda c: abs(c - median))
    return nearest if abs(nearest - median) <= 0.05 * median else max(1, median)


@dataclass(slots=True)
class Grid:
    """The slots of one series. Slot k is at `anchor_ns + k * step_ns`; an observation belongs to the nearest slot.

    A slot closes once the series itself has an observation `lateness_steps` slots past it. The anchor is the earliest
    event time received when the first slot closes, so shuffling within the allowed lateness changes nothing.
    """

    step_ns: int
    anchor_ns: int
    lateness_steps: int
    revise_steps: int
    max_slot: int = -1

    @staticmethod
    def ready(times_ns: list[int], step_ns: int, lateness_steps: int) -> bool:
        """Whether observations at `times_ns` span enough to close the first slot."""
        return max(times_ns) - min(times_ns) >= lateness_steps * step_ns

    @property
    def closed(self) -> int:
        """Number of closed slots: 0 ... closed - 1."""
        return max(0, self.max_slot - self.lateness_steps + 1)

    def slot_of(self, time_ns: int) -> int:
        """The nearest slot; half a step rounds up. Negative before the anchor."""
        return (2 * (time_ns - self.anchor_ns) + self.step_ns) // (2 * self.step_ns)

    def slots_of(self, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """`slot_of` for an array."""
        elapsed = times_ns - self.anchor_ns
        return elapsed // self.step_ns + (2 * (elapsed % self.step_ns) >= self.step_ns)

    def time_of(self, slot: int) -> int:
        return self.anchor_ns + slot * self.step_ns

    def place(self, time_ns: int) -> tuple[int, Placement]:
        """The slot of an observation and whether it may change; advances `max_slot`."""
        slot = self.slot_of(time_ns)
        closed = self.closed
        if slot >= closed:
            self.max_slot = max(self.max_slot, slot)
            return slot, Placement.OPEN
        if slot >= 0 and slot >= closed - self.revise_steps:
            return slot, Placement.REVISION
        return slot, Placement.LATE
