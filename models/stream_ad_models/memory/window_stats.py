"""Statistics of windows of several lengths, built from blocks of one hop.

A length is hop * 2^j: each level joins two windows of the level below, so a block costs a few additions per level, and
a window's numbers do not depend on the stream's first slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["Blocks", "WindowStats", "check_lengths", "window_stats"]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sums over the readings of consecutive blocks, each float64 [block, channel]; count 0: high -inf, low inf."""

    count: Float64
    total: Float64
    square: Float64
    high: Float64
    low: Float64

    @classmethod
    def of(cls, rows: Float32, hop: int) -> Blocks:
        """rows: float32 [blocks * hop, channel], NaN = no reading."""
        grouped = rows.reshape(-1, hop, rows.shape[1]).astype(np.float64)
        present = ~np.isnan(grouped)
        values = np.where(present, grouped, 0.0)
        return cls(
            present.sum(axis=1).astype(np.float64),
            values.sum(axis=1),
            np.square(values).sum(axis=1),
            np.where(present, grouped, -np.inf).max(axis=1),
            np.where(present, grouped, np.inf).min(axis=1),
        )

    def __len__(self) -> int:
        return len(self.count)

    def joined(self, back: int) -> Blocks:
        """Each window joined with the one `back` blocks before it, if any."""

        def join(name: str) -> Float64:
            values: Float64 = getattr(self, name)
            combine = {"high": np.maximum, "low": np.minimum}.get(name, np.add)
            out = values.copy()
            out[back:] = combine(values[back:], values[:-back])
            return out

        return Blocks(*(join(name) for name in self.__slots__)) if back < len(self) else self


@dataclass(frozen=True, slots=True)
class WindowStats:
    """Of the windows of one length that end with each block.

    values: float32 [block, channel, 5] std, range, max, min, mean; 0 where not present.
    present: bool [block, channel], at least half of the window has readings.
    """

    values: Float32
    present: NDArray[np.bool_]


def check_lengths(lengths: Sequence[int], hop: int) -> None:
    allowed = [hop << level for level in range(16)]
    if not lengths or list(lengths) != sorted(set(lengths)) or not set(lengths) <= set(allowed):
        raise ConfigError(f"memory lengths: expected rising powers of two times {hop}, found {list(lengths)}")


def window_stats(blocks: Blocks, lengths: Sequence[int], hop: int) -> dict[int, WindowStats]:
    """Statistics of each length in steps, one window per block; the first ones reach before the first block."""
    found: dict[int, WindowStats] = {}
    windows, length = blocks, hop
    while True:
        if length in lengths:
            found[length] = _stats(windows, length)
        if length >= max(lengths):
            return found
        windows, length = windows.joined(length // hop), 2 * length


def _stats(windows: Blocks, length: int) -> WindowStats:
    present = windows.count >= length / 2
    count = np.maximum(windows.count, 1.0)
    mean = windows.total / count
    spread = np.sqrt(np.maximum(windows.square / count - mean * mean, 0.0))
    with np.errstate(invalid="ignore"):
        values = np.stack([spread, windows.high - windows.low, windows.high, windows.low, mean], axis=2)
    return WindowStats(np.where(present[..., None], values, 0.0).astype(np.float32), present)
