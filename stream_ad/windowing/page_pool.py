"""Room for the recent rows of all series, in pages of one height, kept apart from the process's other memory."""

from __future__ import annotations

from collections import deque
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAGE_BITS", "PAGE_SLOTS", "PagePool", "pool_of"]

PAGE_BITS = 6
PAGE_SLOTS = 1 << PAGE_BITS  # rows come and go, and offsets are remembered, by so many slots
BLOCK_BYTES = 1 << 18
BLOCK_PAGES = 64

Page = NDArray[np.float32]  # [slot, channel]


class PagePool:
    """Pages of one width, cut from blocks. Taken one by one from the heap they would lie between what every round takes
    and frees, and each leave a hole of about its own size there. A block that no page is used of goes back to the heap.
    """

    def __init__(self, channels: int) -> None:
        count = min(BLOCK_PAGES, BLOCK_BYTES // (PAGE_SLOTS * max(1, channels) * 4))
        self._shape = max(1, count), PAGE_SLOTS, channels
        self._free: dict[int, list[Page]] = {}  # by the block they are of, none empty
        self._given: deque[Page] = deque()  # appending is safe from any thread, and from a collection amid `take`
        self._lock = Lock()

    def take(self) -> Page:
        """float32 [64, channel], NaN = no reading."""
        with self._lock:
            self._sort_given()
            if not self._free:
                block = np.empty(self._shape, dtype=np.float32)
                self._free[id(block)] = list(block)
            block_id, pages = next(iter(self._free.items()))
            page = pages.pop()
            if not pages:
                del self._free[block_id]
        page.fill(np.nan)
        return page

    def give(self, pages: list[Page]) -> None:
        """Pages that nobody reads any more. Copies of pages are not ours and left to whoever made them."""
        self._given.extend(page for page in pages if page.base is not None)

    def _sort_given(self) -> None:
        while self._given:
            page = self._given.popleft()
            block_id = id(page.base)
            pages = self._free.setdefault(block_id, [])
            pages.append(page)
            if len(pages) == self._shape[0] and len(self._free) > 1:
                del self._free[block_id]


@cache
def pool_of(channels: int) -> PagePool:
    """The one pool of this width in the process."""
    return PagePool(channels)
