"""Event time to slots: where a reading belongs on its series' grid, and which slots are closed.

Pure: outputs depend on the readings in their order alone, never on a clock or on how the log was cut into polls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "Placement", "infer_step_ns"]

INFER_READINGS = 8
_NICE = (1, 2, 5, 10, 12, 15, 20, 25, 30, 50)


class Placement(Enum):
    """What became of a reading."""

    OPEN = "open"  # its slot is still open
    REVISION = "revision"  # its slot is closed, but late data may still change it
    LATE = "late"  # too late, or before the series' first slot: nothing changes


def infer_step_ns(times_ns: Iterable[int]) -> int | None:
    """The step of readings at `times_ns` (any order, repeats allowed); None below 8 distinct times.

    The median of the differences, taken to a round number of ms, s or min within 5% (clock jitter must not make the
    grid drift against the sensor).
    """
    distinct = np.unique(np.fromiter(times_ns, dtype=np.int64))
    if len(distinct) < INFER_READINGS:
        return None
    median = int(np.median(np.diff(distinct)))
    units = (1_000, 1_000_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000)
    candidates = [unit * factor * scale for unit in units for factor in _NICE for scale in (1, 10)]
    nearest = min(candidates, key=lambda c: abs(c - median))
    return nearest if abs(nearest - median) <= 0.05 * median else max(1, median)


@dataclass(slots=True)
class Grid:
    """Slots of one series. Slot k is at `anchor_ns + k * step_ns`; readings snap to the nearest.

    A slot is closed once the series itself has moved `lateness_steps` slots past it. The anchor is the earliest reading
    there is when the first slot closes, so shuffling within the allowed lateness changes nothing.
    """

    step_ns: int
    anchor_ns: int
    lateness_steps: int
    revise_steps: int
    max_slot: int = -1

    @staticmethod
    def ready(times_ns: list[int], step_ns: int, lateness_steps: int) -> bool:
        """Whether readings at `times_ns` are enough to close the first slot."""
        return max(times_ns) - min(times_ns) >= lateness_steps * step_ns

    @property
    def closed(self) -> int:
        """Number of closed slots: slots 0 ... closed - 1 are closed."""
        return max(0, self.max_slot - self.lateness_steps + 1)

    def slot_of(self, time_ns: int) -> int:
        """The nearest slot; half a step rounds up. Negative before the anchor."""
        return (2 * (time_ns - self.anchor_ns) + self.step_ns) // (2 * self.step_ns)

    def slots_of(self, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """`slot_of` each time."""
        before = times_ns - self.anchor_ns
        return before // self.step_ns + (2 * (before % self.step_ns) >= self.step_ns)

    def time_of(self, slot: int) -> int:
        """Event time of a slot in ns."""
        return self.anchor_ns + slot * self.step_ns

    def place(self, time_ns: int) -> tuple[int, Placement]:
        """The slot of a reading and what becomes of it; moves the grid on."""
        slot = self.slot_of(time_ns)
        closed = self.closed
        if slot >= closed:
            self.max_slot = max(self.max_slot, slot)
            return slot, Placement.OPEN
        if slot >= 0 and slot >= closed - self.revise_steps:
            return slot, Placement.REVISION
        return slot, Placement.LATE
