"""The recent slots of one series: their readings, and the log offsets that they came from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stream_ad.windowing.page_pool import PAGE_BITS, PAGE_SLOTS, pool_of

__all__ = ["SlotBuffer"]


class SlotBuffer:
    """Rows of the slots `base` ... `top - 1`: float32 [slot, channel], NaN = no reading, also outside of the buffer.

    Slots below `base` cannot be written. The rows lie in pages of one size, since a growing and shrinking array would
    fragment the heap.
    """

    def __init__(self, channels: int, base: int = 0) -> None:
        self.channels = channels
        self.base = base
        self.top = base
        self._pages: list[NDArray[np.float32]] = []  # [64, channel] each; the first holds `base`
        self._seen = 0  # bit n: slot `base` + n had an observation
        self._first_offsets: dict[int, int] = {}  # page number -> offset of the first record that wrote to it

    def __del__(self) -> None:
        pool_of(self.channels).release(self._pages)

    def put(self, slot: int, indices: NDArray[np.intp], values: NDArray[np.float32], offset: int) -> bool:
        """Writes readings of one slot over older ones; NaN changes nothing. False when the slot was already dropped."""
        if slot < self.base:
            return False
        self._extend(slot + 1)
        present = ~np.isnan(values)
        row = self._pages[(slot >> PAGE_BITS) - self._first_page][slot % PAGE_SLOTS]
        if present.all():
            row[indices] = values
        else:
            row[indices[present]] = values[present]
        self._seen |= 1 << (slot - self.base)
        self._first_offsets.setdefault(slot >> PAGE_BITS, offset)
        return True

    def put_all(
        self,
        slots: NDArray[np.int64],
        indices: NDArray[np.intp],
        values: NDArray[np.float32],
        offsets: NDArray[np.int64],
    ) -> None:
        """`put` for rising slots [n], none below `base`; values [n, index], offsets [n]."""
        fresh = int(slots[0]) >= self.top
        self._extend(int(slots[-1]) + 1)
        numbers = slots >> PAGE_BITS
        cuts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(slots)]
        for begin, end in pairwise(cuts):
            number, new = int(numbers[begin]), values[begin:end]
            at, page = slots[begin:end, None] % PAGE_SLOTS, self._pages[number - self._first_page]
            page[at, indices] = new if fresh else np.where(np.isnan(new), page[at, indices], new)
            self._first_offsets.setdefault(number, int(offsets[begin]))
        bits = np.zeros(int(slots[-1]) - self.base + 1, dtype=bool)
        bits[slots - self.base] = True
        self._seen |= int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")

    def window(self, start: int, stop: int) -> NDArray[np.float32]:
        """A copy of the slots start ... stop - 1: float32 [stop - start, channel]."""
        out = np.full((stop - start, self.channels), np.nan, dtype=np.float32)
        for first, rows in self._page_slices(max(start, self.base), min(stop, self.top)):
            out[first - start : first - start + len(rows)] = rows
        return out

    def seen(self, start: int, stop: int) -> NDArray[np.bool_]:
        """bool [stop - start]: True where a slot had an observation, even one without any reading."""
        out = np.zeros(max(0, stop - start), np.bool_)
        low, high = max(start, self.base), min(stop, self.top)  # before any shift: slots can be 10^14 apart
        if low < high:
            bits = (self._seen >> (low - self.base)) & ((1 << (high - low)) - 1)
            packed = np.frombuffer(bits.to_bytes(-(-(high - low) // 8), "little"), np.uint8)
            out[low - start : high - start] = np.unpackbits(packed, count=high - low, bitorder="little")
        return out

    def min_required_offset(self, slot: int) -> int | None:
        """Smallest Kafka offset needed to rebuild the buffer from `slot` on; None when empty."""
        page = slot >> PAGE_BITS
        return min((offset for key, offset in self._first_offsets.items() if key >= page), default=None)

    def drop_before(self, slot: int) -> None:
        """Drops the slots below `slot`, in whole pages."""
        first = self._first_page
        count = (min(slot, self.top) >> PAGE_BITS) - first
        if count <= 0:
            return
        pool_of(self.channels).release(self._pages[:count])
        del self._pages[:count]
        base = (first + count) << PAGE_BITS
        self._seen >>= base - self.base
        self.base = base
        self._first_offsets = {page: offset for page, offset in self._first_offsets.items() if page >= first + count}

    def reorder(self, order: list[int]) -> None:
        """Column c becomes the old column order[c]; an index past the old ones is a new, empty column."""
        old, kept, pool = self.channels, self._pages, pool_of(len(order))
        there = [place for place, channel in enumerate(order) if channel < old]
        self._pages = [pool.acquire() for _ in kept]
        for new, page in zip(self._pages, kept, strict=True):
            new[:, there] = page[:, [order[place] for place in there]]
        self.channels = len(order)
        pool_of(old).release(kept)

    @property
    def _first_page(self) -> int:
        return self.base >> PAGE_BITS

    def _extend(self, top: int) -> None:
        self.top = max(top, self.top)
        while len(self._pages) < -(-self.top >> PAGE_BITS) - self._first_page:
            self._pages.append(pool_of(self.channels).acquire())

    def _page_slices(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The rows of slots start ... stop - 1 page by page, each part with its first slot."""
        while start < stop:
            end = min((start | (PAGE_SLOTS - 1)) + 1, stop)
            page = self._pages[(start >> PAGE_BITS) - self._first_page]
            yield start, page[start % PAGE_SLOTS : start % PAGE_SLOTS + end - start]
            start = end
