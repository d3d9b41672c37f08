"""The recent slots of one series: their readings, and where in the log these came from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowStore"]

_PIN_BITS = 6  # offsets are remembered per 64 slots
_ROOM = 32  # slots at first: a series that said little costs little
_SLACK = 64  # slots kept beyond need before some are dropped


class RowStore:
    """Rows of slots `base` ... `top - 1` in one contiguous block, so that a window is a slice.

    float32 [slot, channel], NaN = no reading; so read slots outside the block. Writing below `base` is refused.
    """

    def __init__(self, channels: int, base: int = 0) -> None:
        self.base = base
        self.top = base
        self._values = np.full((_ROOM, channels), np.nan, dtype=np.float32)
        self._seen = np.zeros(_ROOM, dtype=bool)
        self._pins: dict[int, int] = {}

    @property
    def channels(self) -> int:
        return int(self._values.shape[1])

    def put(self, slot: int, indices: NDArray[np.intp], values: NDArray[np.float32], offset: int) -> bool:
        """Readings of one slot; the last one wins, NaN changes no reading. False when the slot is no longer kept."""
        if slot < self.base:
            return False
        self._reach(slot + 1)
        present = ~np.isnan(values)
        row = self._values[slot - self.base]
        if present.all():
            row[indices] = values
        else:
            row[indices[present]] = values[present]
        self._seen[slot - self.base] = True
        self._pins.setdefault(slot >> _PIN_BITS, offset)
        return True

    def put_all(
        self,
        slots: NDArray[np.int64],
        indices: NDArray[np.intp],
        values: NDArray[np.float32],
        offsets: NDArray[np.int64],
    ) -> None:
        """`put` of rising slots [n], none below `base`; values [n, index], offsets [n]."""
        first, last = int(slots[0]), int(slots[-1])
        fresh = first >= self.top
        self._reach(last + 1)
        at: Any = slice(first - self.base, last - self.base + 1)
        if last - first != len(slots) - 1:
            at = (slots - self.base)[:, None]
        self._values[at, indices] = values if fresh else _kept(values, self._values[at, indices])
        self._seen[at] = True
        if first >> _PIN_BITS == last >> _PIN_BITS:
            self._pins.setdefault(first >> _PIN_BITS, int(offsets[0]))
            return
        blocks, at_first = np.unique(slots >> _PIN_BITS, return_index=True)
        for block, offset in zip(blocks.tolist(), offsets[at_first].tolist(), strict=True):
            self._pins.setdefault(block, offset)

    def window(self, start: int, stop: int) -> NDArray[np.float32]:
        """A copy of slots start ... stop - 1: float32 [stop - start, channel]; NaN where nothing is kept."""
        out = np.full((stop - start, self.channels), np.nan, dtype=np.float32)
        low, high = max(start, self.base), min(stop, self.top)
        if low < high:
            out[low - start : high - start] = self._values[low - self.base : high - self.base]
        return out

    def seen(self, start: int, stop: int) -> NDArray[np.bool_]:
        """bool [stop - start]: True where a slot had an observation, be all its readings missing."""
        out = np.zeros(max(0, stop - start), dtype=bool)
        low, high = max(start, self.base), min(stop, self.top)
        if low < high:
            out[low - start : high - start] = self._seen[low - self.base : high - self.base]
        return out

    def pin(self, slot: int) -> int | None:
        """Offset of the first record that touched `slot` or a later one; None when there is none."""
        block = slot >> _PIN_BITS
        return min((offset for key, offset in self._pins.items() if key >= block), default=None)

    def drop_before(self, slot: int) -> None:
        """Forgets slots below `slot`; memory is given back in steps."""
        drop = min(slot, self.top) - self.base
        if drop < _SLACK:
            return
        used = self.top - self.base
        size = used - drop + _SLACK + _ROOM
        self._values = _with_room(self._values[drop:used], size, np.nan)
        self._seen = _with_room(self._seen[drop:used], size, False)
        self.base += drop
        first = self.base >> _PIN_BITS
        self._pins = {block: offset for block, offset in self._pins.items() if block >= first}

    def reorder(self, order: list[int]) -> None:
        """Puts the channels in another order, or adds empty ones for indices past the end."""
        wide = np.full((len(self._values), max(len(order), self.channels)), np.nan, dtype=np.float32)
        wide[:, : self.channels] = self._values
        self._values = np.ascontiguousarray(wide[:, order])

    def _reach(self, top: int) -> None:
        if top <= self.top:
            return
        if top - self.base > len(self._values):
            size = max(top - self.base, len(self._values) + max(len(self._values) // 8, _ROOM))
            self._values = _with_room(self._values, size, np.nan)
            self._seen = _with_room(self._seen, size, False)
        self.top = top


def _kept(values: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(np.isnan(values), before, values)


def _with_room(array: NDArray[Any], size: int, fill: float | bool) -> NDArray[Any]:
    wide = np.full((size, *array.shape[1:]), fill, dtype=array.dtype)
    wide[: len(array)] = array
    return wide
