"""The end of a stream of rows, in memory of its own that stays where it is.

Copies that come and go with every window leave holes between what stays: a fifth of a worker's memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RingBuffer"]


class RingBuffer:
    """The last `size` rows of an array [row, ...] that grows."""

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
        """rows: those before and the new ones, or as many of the last as there is room for; no view of this tail."""
        self._count = min(len(rows), len(self._kept))
        self._kept[: self._count] = rows[len(rows) - self._count :]

    def clear(self) -> None:
        self._count = 0
