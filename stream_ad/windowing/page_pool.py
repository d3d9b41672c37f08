"""Memory for the recent rows of all series: pages of one height, apart from the process's other allocations."""

from __future__ import annotations

from collections import deque
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAGE_BITS", "PAGE_SLOTS", "PagePool", "pool_of"]

PAGE_BITS = 6
PAGE_SLOTS = 1 << PAGE_BITS  # rows are allocated and freed, and replay offsets kept, in units of so many slots
BLOCK_BYTES = 1 << 18
BLOCK_PAGES = 64

Page = NDArray[np.float32]  # [slot, channel]


class PagePool:
    """Pages of one width, cut from blocks; a block without used pages is freed.

    Pages allocated one by one would fragment the heap: they would lie between the temporary arrays of each batch.
    """

    def __init__(self, channels: int) -> None:
        count = min(BLOCK_PAGES, BLOCK_BYTES // (PAGE_SLOTS * max(1, channels) * 4))
        self._shape = max(1, count), PAGE_SLOTS, channels
        self._free: dict[int, list[Page]] = {}  # by id of the block, none empty
        self._released: deque[Page] = deque()  # append is safe from any thread, and from a GC run within `acquire`
        self._lock = Lock()

    def acquire(self) -> Page:
        """float32 [64, channel], all NaN."""
        with self._lock:
            self._sort_released()
            if not self._free:
                block = np.empty(self._shape, dtype=np.float32)
                self._free[id(block)] = list(block)
            block_id, pages = next(iter(self._free.items()))
            page = pages.pop()
            if not pages:
                del self._free[block_id]
        page.fill(np.nan)
        return page

    def release(self, pages: list[Page]) -> None:
        """Pages without a reader. Deep copies of pages are no part of a block and are left to the garbage collector."""
        self._released.extend(page for page in pages if page.base is not None)

    def _sort_released(self) -> None:
        while self._released:
            page = self._released.popleft()
            block_id = id(page.base)
            pages = self._free.setdefault(block_id, [])
            pages.append(page)
            if len(pages) == self._shape[0] and len(self._free) > 1:
                del self._free[block_id]


@cache
def pool_of(channels: int) -> PagePool:
    """The process's one pool of this width."""
    return PagePool(channels)
