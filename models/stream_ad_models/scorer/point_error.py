"""Errors point by point: short anomalies that barely change the features of a whole window.

Squared errors, each channel divided by its mean on the history, averaged over channels, smoothed by exp(-|t| / w) with
w = max(2, 24 / K^(1/3)) steps for K channels (forward only as far as the delay allows), and taken as logs.
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

__all__ = [
    "BACK_STEPS", "SMALLEST_MEAN", "PointError", "PointErrorState", "kept_blocks", "point_values", "push_points",
    "smoothing_kernel",
]  # fmt: skip

BACK_STEPS = 64  # the kernel's reach into the past
SMALLEST_MEAN = 0.01  # added to a channel's mean square
_LOG_FLOOR = 0.01


@lru_cache
def smoothing_kernel(channels: int, delay: int) -> Float64:
    """Weights, of sum 1, of the steps -BACK_STEPS ... delay around a slot: float64 [BACK_STEPS + 1 + delay]."""
    width = max(2.0, 24.0 / channels ** (1 / 3))
    kernel = np.exp(-np.abs(np.arange(-BACK_STEPS, delay + 1)) / width)
    return np.asarray(kernel / kernel.sum())


@lru_cache
def _block_kernel(channels: int, hop: int, look_ahead: int) -> Float64:
    """The kernel of each slot of a block over the slots of the blocks around it, [hop, (back + 1 + look_ahead) * hop];
    shared by all series with these arguments."""
    kernel, delay = smoothing_kernel(channels, look_ahead * hop), look_ahead * hop
    apart = np.arange(-_back_blocks(hop) * hop, delay + hop) - np.arange(hop)[:, None]
    inside = (apart >= -BACK_STEPS) & (apart <= delay)
    return np.where(inside, kernel[np.where(inside, apart + BACK_STEPS, 0)], 0.0)


def _back_blocks(hop: int) -> int:
    return -(-BACK_STEPS // hop)


def kept_blocks(hop: int) -> int:
    """How many blocks of errors are needed: those of a window, and the kernel's reach before the oldest of them."""
    return WINDOW_STEPS // hop + _back_blocks(hop)


class PointError:
    """means: float64 [channel], mean squares of the history's errors."""

    def __init__(self, means: Float64, hop: int, look_ahead: int) -> None:
        """look_ahead: blocks of errors known after a slot's block."""
        self.means, self._look_ahead, self._back = means, look_ahead, _back_blocks(hop)
        self._kernel = _block_kernel(len(means), hop, look_ahead)

    @staticmethod
    def learn(errors: Float32) -> Float64:
        """Means of errors float32 [..., channel], NaN = no reading."""
        squares = np.square(np.nan_to_num(errors).astype(np.float64)).reshape(-1, errors.shape[-1])
        return np.asarray(squares.mean(axis=0) + SMALLEST_MEAN, np.float64)

    def level(self, errors: Float32) -> Float64:
        """errors: float32 [block, hop, channel] -> their size at every slot, float64 [block, hop]; 0 = no reading."""
        return _levels(errors, self.means)

    def values(self, levels: Float64, blocks: NDArray[np.int64], first: int, known: NDArray[np.int64]) -> Float64:
        """Log of the smoothed levels; arguments as in `smoothed`."""
        return self.log(self.smoothed(levels, blocks, first, known))

    def smoothed(self, levels: Float64, blocks: NDArray[np.int64], first: int, known: NDArray[np.int64]) -> Float64:
        """float64 [..., n, hop], at the slots of the blocks [n].

        levels: float64 [..., block, hop] from block `first` on; known: [n] last block that may be used.
        """
        wanted = blocks[:, None] + np.arange(-self._back, self._look_ahead + 1)
        inside = (wanted >= first) & (wanted < first + levels.shape[-2]) & (wanted <= known[:, None])
        around = np.where(inside[..., None], levels[..., np.where(inside, wanted - first, 0), :], 0.0)
        return np.asarray(around.reshape(*around.shape[:-2], -1) @ self._kernel.T)

    @staticmethod
    def log(smoothed: Float64) -> Float64:
        return np.asarray(np.log(smoothed + _LOG_FLOOR))


def _levels(errors: Float32, means: Float64) -> Float64:
    squares = np.square(np.nan_to_num(errors).astype(np.float64))
    squares /= means
    return np.asarray(squares.mean(axis=-1), np.float64)


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
        """errors: float32 [block, hop, channel], NaN = no reading, following the earlier ones."""
        push_points([self], errors[None])

    def values(self, blocks: NDArray[np.int64], known: NDArray[np.int64]) -> Float64:
        """At the slots of blocks [n], none after block `known` [n] used: float64 [n, hop]."""
        return np.asarray(point_values([self], blocks, known)[0])

    def trim(self) -> None:
        """Drops levels that no later slot needs."""
        self._kept.keep(self._levels)
        self._levels = self._kept.rows

    @property
    def batch_key(self) -> int:
        """States with the same key may be pushed in one batch."""
        return len(self._levels)


def push_points(states: Sequence[PointErrorState], errors: Float32) -> None:
    """errors: float32 [series, block, hop, channel], NaN = no reading, following the earlier ones of each state."""
    means = np.stack([state._point.means for state in states])[:, None, None]
    known = np.concatenate([np.stack([state._levels for state in states]), _levels(errors, means)], axis=1)
    for state, levels in zip(states, known, strict=True):
        state._levels = levels.copy()
        state._next_block += errors.shape[1]


def point_values(states: Sequence[PointErrorState], blocks: NDArray[np.int64], known: NDArray[np.int64]) -> Float64:
    """`PointErrorState.values` of several [series, n, hop]; blocks and known in the numbering of the first."""
    one = states[0]
    levels = np.stack([state._levels for state in states])
    return one._point.values(levels, blocks, one._next_block - levels.shape[1], known)
