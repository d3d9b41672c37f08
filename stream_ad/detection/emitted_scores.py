"""The last emitted score of each recent slot, which decides what late data emit again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["EmittedScores"]


class EmittedScores:
    """Last emitted score and revision of the newest `capacity` slots (ring buffer, allocated at the first emission).

    A slot is stale when its emitted score is out of date but was not re-emitted: late data moved it by less than the
    revision tolerance, or the profile was refitted since.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._allocate(0)

    def _allocate(self, size: int) -> None:
        self._slot = np.full(size, -1, dtype=np.int64)
        self._score = np.full(size, np.nan, dtype=np.float64)
        self._revision = np.zeros(size, dtype=np.int32)
        self._stale = np.zeros(size, dtype=np.bool_)

    def lookup(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Score (NaN = not emitted, or too long ago) and revision of each slot."""
        if not len(self._slot):
            return np.full(len(slots), np.nan), np.zeros(len(slots), dtype=np.int32)
        at = slots % self._capacity
        known = self._slot[at] == slots
        return np.where(known, self._score[at], np.nan), np.where(known, self._revision[at], 0).astype(np.int32)

    def store(self, slots: NDArray[np.int64], score: NDArray[np.float64], revision: NDArray[np.int32]) -> None:
        if not len(self._slot):
            self._allocate(self._capacity)
        at = slots % self._capacity
        self._slot[at], self._score[at], self._revision[at], self._stale[at] = slots, score, revision, False

    def set_stale(self, slots: NDArray[np.int64], stale: NDArray[np.bool_]) -> None:
        """The slots must be stored."""
        self._stale[slots % self._capacity] = stale

    def set_all_stale(self) -> None:
        self._stale[:] = self._slot >= 0

    def scores(self, slots: range, stale_from: int) -> dict[int, float]:
        """Slot -> score: the stored ones of `slots`, and the stale ones from slot `stale_from` on."""
        among = (self._slot >= slots.start) & (self._slot < slots.stop)
        at = np.flatnonzero((among | (self._stale & (self._slot >= stale_from))) & ~np.isnan(self._score))
        return dict(zip(self._slot[at].tolist(), self._score[at].tolist(), strict=True))

    def revisions(self) -> dict[int, int]:
        """Slot -> revision, of the slots emitted more than once."""
        at = np.flatnonzero(self._revision)
        return dict(zip(self._slot[at].tolist(), self._revision[at].tolist(), strict=True))
