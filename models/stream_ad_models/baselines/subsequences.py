"""Baselines that rebuild short sub-sequences of all channels from what the history taught.

A sub-sequence is `steps` rows of every scored channel in one vector; a row's squared error is the mean over the
sub-sequences of the window that hold it. Readings that are missing enter no error.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.baselines.base import Arrays, Learned, PointErrors, PointwiseScorer, PointwiseSession

Float64 = NDArray[np.float64]

__all__ = ["Rebuilder", "SubsequenceScorer", "taught_by"]

_MOST_STEPS = 32  # the default delay: the newest row that is told has been seen by all its sub-sequences
_MOST_VALUES = 512  # of one sub-sequence
_MOST_SUBSEQUENCES = 8192  # of the history, evenly spaced: centres and components need no more
_CHUNK_ROWS = 2048
_FLOOR = 0.03  # smallest standard deviation of the errors, in z-scores


class Rebuilder(Protocol):
    """What normal looks like nearest to a sub-sequence."""

    def __call__(self, subsequences: Float64) -> Float64:
        """float64 [n, steps * channel], NaN = no reading -> the same shape without NaN."""
        ...


class SubsequenceSession(PointwiseSession):
    def __init__(self, arrays: Arrays, rebuild: Rebuilder) -> None:
        super().__init__(arrays)
        self._rebuild = rebuild
        self._spread = np.asarray(arrays["subsequence.spread"], np.float64)
        self._steps = _steps(len(self._spread))

    def errors(self, z: Float64, end_slot: int) -> PointErrors:
        del end_slot  # nothing runs from window to window
        squares, expected = _errors(z, self._steps, self._rebuild)
        return PointErrors([squares / self._spread**2], expected, np.broadcast_to(self._spread, z.shape))


class SubsequenceScorer(PointwiseScorer):
    """Subclasses say what is learned of sub-sequences, and how one is rebuilt from it."""

    @abstractmethod
    def teach(self, subsequences: Float64) -> dict[str, NDArray[np.generic]]:
        """subsequences: float64 [n, steps * channel], 0 (the centre) where there is no reading."""

    @abstractmethod
    def rebuilder(self, arrays: Arrays) -> Rebuilder:
        """Over what `teach` returned."""

    def learn(self, z: Float64) -> Learned:
        """Held-out errors: each half of the history rebuilt from what the other half taught."""
        steps, middle = _steps(z.shape[1]), len(z) // 2
        halves = (z[:middle], z[middle:])
        rebuilders = [self.rebuilder(self.teach(taught_by(half, steps))) for half in halves]
        pairs = zip(halves, reversed(rebuilders), strict=True)
        held_out = np.concatenate([_errors(half, steps, other)[0] for half, other in pairs])
        spread = np.maximum(np.sqrt(held_out.mean(axis=0)), _FLOOR)
        arrays = {"subsequence.spread": spread, **self.teach(taught_by(z, steps))}
        return Learned(arrays, [held_out / spread**2])

    def open(self, arrays: Arrays) -> SubsequenceSession:
        return SubsequenceSession(arrays, self.rebuilder(arrays))


def taught_by(z: Float64, steps: int) -> Float64:
    """Up to 8,192 sub-sequences of the history, evenly spaced, float64 [n, steps * channel]."""
    view = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(z), steps, axis=0)
    picked = np.unique(np.linspace(0, len(view) - 1, min(len(view), _MOST_SUBSEQUENCES)).astype(np.int64))
    return np.asarray(view[picked].reshape(len(picked), -1), np.float64)


def _steps(channels: int) -> int:
    return int(np.clip(_MOST_VALUES // channels, 2, _MOST_STEPS))


def _errors(z: Float64, steps: int, rebuild: Rebuilder) -> tuple[Float64, Float64]:
    """Squared errors, 0 where there is no reading, and mean of what was rebuilt, both [n, channel]."""
    squares, expected = np.zeros_like(z), np.zeros_like(z)
    count = np.zeros((len(z), 1))
    view = np.lib.stride_tricks.sliding_window_view(z, steps, axis=0)  # [n - steps + 1, channel, steps]
    for at in range(0, len(view), _CHUNK_ROWS):
        part = view[at : at + _CHUNK_ROWS]
        rebuilt = rebuild(part.reshape(len(part), -1)).reshape(part.shape)
        errors = np.nan_to_num(np.square(part - rebuilt))
        for lag in range(steps):
            rows = slice(at + lag, at + lag + len(part))
            squares[rows] += errors[:, :, lag]
            expected[rows] += rebuilt[:, :, lag]
            count[rows] += 1
    return squares / count, expected / count
