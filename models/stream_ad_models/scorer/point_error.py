"""Errors point by point: short anomalies that a memory of windows sees only through a whole window.

Squared errors, each channel divided by its mean on the history, averaged over channels, smoothed by exp(-|t| / w) with
w = max(2, 24 / K^(1/3)) steps for K channels as far as the delay lets it, and taken as logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.defaults import WINDOW_STEPS
from stream_ad_models.memory.ring import RingBuffer

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["BACK_STEPS", "PointError", "PointErrorState", "kept_blocks", "point_values", "push_points"]

BACK_STEPS = 64  # the kernel's reach into the past
_SMALLEST = 0.01
_LOG_FLOOR = 0.01


class PointError:
    """means: float64 [channel], mean squares of the history's errors."""

    def __init__(self, means: Float64, hop: int, ahead: int) -> None:
        """ahead: blocks of errors known after a slot's own."""
        self.means, self._ahead, self._back = means, ahead, -(-BACK_STEPS // hop)
        self._kernel = _kernel(len(means), hop, self._back, ahead)

    @staticmethod
    def learn(errors: Float32) -> Float64:
        """Means of errors float32 [..., channel], NaN = no reading."""
        squares = np.square(np.nan_to_num(errors).astype(np.float64)).reshape(-1, errors.shape[-1])
        return np.asarray(squares.mean(axis=0) + _SMALLEST, np.float64)

    def level(self, errors: Float32) -> Float64:
        """errors: float32 [block, hop, channel] -> their size at every slot, float64 [block, hop]; 0 = none there."""
        return _levels(errors, self.means)

    def values(self, levels: Float64, blocks: NDArray[np.int64], first: int, known: NDArray[np.int64]) -> Float64:
        """Log of the smoothed levels; the rest as in `smoothed`."""
        return self.log(self.smoothed(levels, blocks, first, known))

    def smoothed(self, levels: Float64, blocks: NDArray[np.int64], first: int, known: NDArray[np.int64]) -> Float64:
        """float64 [..., n, hop], at the slots of the blocks [n].

        levels: float64 [..., block, hop] from block `first` on; known: [n] last block that may be looked at.
        """
        wanted = blocks[:, None] + np.arange(-self._back, self._ahead + 1)
        inside = (wanted >= first) & (wanted < first + levels.shape[-2]) & (wanted <= known[:, None])
        around = np.where(inside[..., None], levels[..., np.where(inside, wanted - first, 0), :], 0.0)
        return np.asarray(around.reshape(*around.shape[:-2], -1) @ self._kernel.T)

    @staticmethod
    def log(smoothed: Float64) -> Float64:
        return np.asarray(np.log(smoothed + _LOG_FLOOR))


@lru_cache
def _kernel(channels: int, hop: int, back: int, ahead: int) -> Float64:
    """Weights of the slots of the blocks around, for each slot of a block [hop, (back + 1 + ahead) * hop]; one for all
    series that are alike."""
    width = max(2.0, 24.0 / channels ** (1 / 3))
    apart = np.arange(-back * hop, (1 + ahead) * hop) - np.arange(hop)[:, None]
    # The same reach for every slot of a block.
    kernel = np.where((apart >= -BACK_STEPS) & (apart <= ahead * hop), np.exp(-np.abs(apart) / width), 0.0)
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))


def _levels(errors: Float32, means: Float64) -> Float64:
    squares = np.square(np.nan_to_num(errors).astype(np.float64))
    squares /= means
    return np.asarray(squares.mean(axis=-1), np.float64)


def kept_blocks(hop: int) -> int:
    """Of errors: those of a window, and what the kernel reaches back from the oldest of them."""
    return WINDOW_STEPS // hop + -(-BACK_STEPS // hop)


class PointErrorState:
    """Running levels of the errors of one stream; blocks are numbered from the series' first slot."""

    def __init__(self, point: PointError, hop: int) -> None:
        self._point, self._hop = point, hop
        self._kept = RingBuffer(kept_blocks(hop), (hop,), np.float64)
        self.clear(0)

    def clear(self, next_block: int) -> None:
        """Forgets everything; the next errors begin with block `next_block`."""
        self._kept.clear()
        self._levels: Float64 = self._kept.rows
        self._next_block = next_block

    def push(self, errors: Float32) -> None:
        """errors: float32 [block, hop, channel], NaN = no reading, following those before."""
        push_points([self], errors[None])

    def values(self, blocks: NDArray[np.int64], known: NDArray[np.int64]) -> Float64:
        """Of the slots of blocks [n], nothing after block `known` [n] looked at: float64 [n, hop]."""
        return np.asarray(point_values([self], blocks, known)[0])

    def trim(self) -> None:
        """Drops levels that no later slot needs."""
        self._kept.keep(self._levels)
        self._levels = self._kept.rows

    @property
    def batch_key(self) -> int:
        """Tracks of the same likeness may be pushed together."""
        return len(self._levels)


def push_points(tracks: Sequence[PointErrorState], errors: Float32) -> None:
    """errors: float32 [series, block, hop, channel], NaN = no reading, following those before of each track."""
    means = np.stack([track._point.means for track in tracks])[:, None, None]
    known = np.concatenate([np.stack([track._levels for track in tracks]), _levels(errors, means)], axis=1)
    for track, levels in zip(tracks, known, strict=True):
        track._levels = levels.copy()
        track._next_block += errors.shape[1]


def point_values(tracks: Sequence[PointErrorState], blocks: NDArray[np.int64], known: NDArray[np.int64]) -> Float64:
    """`PointErrorState.values` of several [series, n, hop]; blocks and known as the first track numbers them."""
    one = tracks[0]
    levels = np.stack([track._levels for track in tracks])
    return one._point.values(levels, blocks, one._next_block - levels.shape[1], known)
