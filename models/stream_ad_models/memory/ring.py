"""The newest rows of a stream, in one array that is never reallocated.

Arrays that are allocated and freed with every window fragment the heap: a fifth of a worker's memory (ADR 20).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RingBuffer"]


class RingBuffer:
    """The last `size` rows [row, ...] of a growing array."""

    __slots__ = ("_count", "_kept")

    def __init__(self, size: int, shape: tuple[int, ...], dtype: type[np.floating[Any]] = np.float32) -> None:
        """shape: of a row."""
        self._kept = np.empty((size, *shape), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> NDArray[Any]:
        """Oldest first. A view: `keep` changes it."""
        return self._kept[: self._count]

    def keep(self, rows: NDArray[Any]) -> None:
        """rows: the earlier and the new ones, or at least the last `size` of them; not a view of this buffer."""
        self._count = min(len(rows), len(self._kept))
        self._kept[: self._count] = rows[len(rows) - self._count :]

    def clear(self) -> None:
        self._count = 0
