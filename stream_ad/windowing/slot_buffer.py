"""The recent slots of one series: their readings, and where in the log these came from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stream_ad.windowing.page_pool import PAGE_BITS, PAGE_SLOTS, pool_of

__all__ = ["SlotBuffer"]


class SlotBuffer:
    """Rows of slots `base` ... `top - 1`, in pages of one size: of a block that grows and shrinks, every copy would
    leave a hole of another size in the process's memory.

    float32 [slot, channel], NaN = no reading; so read slots outside. Writing below `base` is refused.
    """

    def __init__(self, channels: int, base: int = 0) -> None:
        self.channels = channels
        self.base = base
        self.top = base
        self._pages: list[NDArray[np.float32]] = []  # [64, channel] each, from the one that holds `base` on
        self._seen = 0  # bit n: slot `base` + n had an observation
        self._pins: dict[int, int] = {}

    def __del__(self) -> None:
        pool_of(self.channels).give(self._pages)

    def put(self, slot: int, indices: NDArray[np.intp], values: NDArray[np.float32], offset: int) -> bool:
        """Readings of one slot; the last one wins, NaN changes no reading. False when the slot is no longer kept."""
        if slot < self.base:
            return False
        self._reach(slot + 1)
        present = ~np.isnan(values)
        row = self._pages[(slot >> PAGE_BITS) - self._first][slot % PAGE_SLOTS]
        if present.all():
            row[indices] = values
        else:
            row[indices[present]] = values[present]
        self._seen |= 1 << (slot - self.base)
        self._pins.setdefault(slot >> PAGE_BITS, offset)
        return True

    def put_all(
        self,
        slots: NDArray[np.int64],
        indices: NDArray[np.intp],
        values: NDArray[np.float32],
        offsets: NDArray[np.int64],
    ) -> None:
        """`put` of rising slots [n], none below `base`; values [n, index], offsets [n]."""
        fresh = int(slots[0]) >= self.top
        self._reach(int(slots[-1]) + 1)
        numbers = slots >> PAGE_BITS
        cuts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(slots)]
        for begin, end in pairwise(cuts):
            number, own = int(numbers[begin]), values[begin:end]
            at, page = slots[begin:end, None] % PAGE_SLOTS, self._pages[number - self._first]
            page[at, indices] = own if fresh else np.where(np.isnan(own), page[at, indices], own)
            self._pins.setdefault(number, int(offsets[begin]))
        bits = np.zeros(int(slots[-1]) - self.base + 1, dtype=bool)
        bits[slots - self.base] = True
        self._seen |= int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")

    def window(self, start: int, stop: int) -> NDArray[np.float32]:
        """A copy of slots start ... stop - 1: float32 [stop - start, channel]; NaN where nothing is kept."""
        out = np.full((stop - start, self.channels), np.nan, dtype=np.float32)
        for first, rows in self._parts(max(start, self.base), min(stop, self.top)):
            out[first - start : first - start + len(rows)] = rows
        return out

    def seen(self, start: int, stop: int) -> NDArray[np.bool_]:
        """bool [stop - start]: True where a slot had an observation, be all its readings missing."""
        out = np.zeros(max(0, stop - start), np.bool_)
        low, high = max(start, self.base), min(stop, self.top)  # before any shift: slots lie as far apart as times do
        if low < high:
            bits = (self._seen >> (low - self.base)) & ((1 << (high - low)) - 1)
            packed = np.frombuffer(bits.to_bytes(-(-(high - low) // 8), "little"), np.uint8)
            out[low - start : high - start] = np.unpackbits(packed, count=high - low, bitorder="little")
        return out

    def min_required_offset(self, slot: int) -> int | None:
        """Offset of the first record that touched `slot` or a later one; None when there is none."""
        page = slot >> PAGE_BITS
        return min((offset for key, offset in self._pins.items() if key >= page), default=None)

    def drop_before(self, slot: int) -> None:
        """Forgets slots below `slot`, as far as these are whole pages."""
        first = self._first
        drop = (min(slot, self.top) >> PAGE_BITS) - first
        if drop <= 0:
            return
        pool_of(self.channels).give(self._pages[:drop])
        del self._pages[:drop]
        base = (first + drop) << PAGE_BITS
        self._seen >>= base - self.base
        self.base = base
        self._pins = {page: offset for page, offset in self._pins.items() if page >= first + drop}

    def reorder(self, order: list[int]) -> None:
        """Puts the channels in another order, or adds empty ones for indices past the end."""
        old, kept, pool = self.channels, self._pages, pool_of(len(order))
        there = [place for place, channel in enumerate(order) if channel < old]
        self._pages = [pool.take() for _ in kept]
        for new, page in zip(self._pages, kept, strict=True):
            new[:, there] = page[:, [order[place] for place in there]]
        self.channels = len(order)
        pool_of(old).give(kept)

    @property
    def _first(self) -> int:
        return self.base >> PAGE_BITS

    def _reach(self, top: int) -> None:
        self.top = max(top, self.top)
        while len(self._pages) < -(-self.top >> PAGE_BITS) - self._first:
            self._pages.append(pool_of(self.channels).take())

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """What the pages hold of slots start ... stop - 1, each with its first slot."""
        while start < stop:
            end = min((start | (PAGE_SLOTS - 1)) + 1, stop)
            page = self._pages[(start >> PAGE_BITS) - self._first]
            yield start, page[start % PAGE_SLOTS : start % PAGE_SLOTS + end - start]
            start = end
