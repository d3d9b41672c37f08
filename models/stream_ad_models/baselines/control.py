"""Baseline without a model: an adaptive level and the first difference, point by point.

A model has to beat this row. The level is a slowly adapting mean and variance (half-life 5,000 steps, steps clipped at
3 sigma), kept as running state: this scorer alone cannot be rebuilt from a finite look-back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.baselines.base import Arrays, ErrorFunction, Learned, PointErrors, PointwiseScorer

Float64 = NDArray[np.float64]

__all__ = ["ControlScorer", "differences"]

_HALF_LIFE = 5000
_CLIP = 3.0
_RATE = 1 - 0.5 ** (1 / _HALF_LIFE)
_FLOOR = 0.01


class ControlScorer(PointwiseScorer):
    name = "control"

    def learn(self, z: Float64) -> Learned:
        channels = z.shape[1]
        squares, _, _ = _adapt(z, np.zeros(channels), np.ones(channels))
        return Learned({}, [squares, differences(z)])

    def error_function(self, arrays: Arrays) -> ErrorFunction:
        return _AdaptiveLevel(arrays["pointwise.means"].shape[1]).errors


class _AdaptiveLevel:
    def __init__(self, channels: int) -> None:
        self._mean, self._variance = np.zeros(channels), np.ones(channels)
        self._end = -1
        self._ring = np.zeros((0, 3, channels))  # squared deviation, mean, standard deviation of the last rows

    def errors(self, z: Float64, end_slot: int) -> PointErrors:
        if end_slot < self._end:
            self._ring, self._end = self._ring[:0], -1
        new = min(end_slot - self._end, len(z))
        squares, means, spreads = _adapt(z[len(z) - new :], self._mean, self._variance)
        ring = np.concatenate([self._ring, np.stack([squares, means, spreads], axis=1)])[-len(z) :]
        self._ring, self._end = ring, end_slot
        whole = np.concatenate([np.tile([[0.0], [0.0], [1.0]], (len(z) - len(ring), 1, 1)).repeat(z.shape[1], 2), ring])
        return PointErrors([whole[:, 0], differences(z)], whole[:, 1], whole[:, 2])


def _adapt(z: Float64, mean: Float64, variance: Float64) -> tuple[Float64, Float64, Float64]:
    """Squared deviation, mean and standard deviation before each row [n, channel]; mean and variance are updated in
    place."""
    squares, means, spreads = np.zeros_like(z), np.empty_like(z), np.empty_like(z)
    for at, row in enumerate(z):
        spread = np.sqrt(np.maximum(variance, _FLOOR))
        means[at], spreads[at] = mean, spread
        deviation = np.nan_to_num((row - mean) / spread)
        squares[at] = deviation**2
        step = np.clip(deviation, -_CLIP, _CLIP) * spread
        seen = ~np.isnan(row)
        mean += _RATE * step
        variance += np.where(seen, _RATE * (step**2 - variance), 0.0)
    return squares, means, spreads


def differences(z: Float64) -> Float64:
    """Squared first differences [n, channel], 0 next to a missing reading."""
    return np.nan_to_num(np.square(np.diff(z, axis=0, prepend=z[:1])))
