"""Values of many maps as log tail probabilities of the channel's own held-out rows, so that they can be compared.

Peaks over threshold by channel and map (Coles 2001, chapter 4): the excesses of declustered peaks over the 99% quantile
follow a generalised Pareto law, fitted by L-moments (Hosking & Wallis 1987), its shape drawn towards a prior because
few peaks say little of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tails"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_QUANTILE = 0.99
_RUN_STEPS = 16  # rows that part two peaks
_PRIOR_SHAPE, _PRIOR_PEAKS = 0.2, 60
_MAX_SHAPE = 0.6
_FEWEST_PEAKS = 3
_SMALLEST = 1e-4
_LEAST_SCALE = 0.05  # of the threshold itself: a channel that hardly moves must not make mountains of rounding


@dataclass(frozen=True, slots=True)
class Tails:
    """All float32 [map, channel]. centre: taken off first; start: where the tail begins; scale, shape: of the law of
    what lies over it; base: -log of the rate of peaks over `start`, per row."""

    centre: Float32
    start: Float32
    scale: Float32
    shape: Float32
    base: Float32

    @classmethod
    def fit(cls, values: Float32, centred: Float64 | float = 0.0, least_scale: Float64 | float = 0.0) -> Tails:
        """values: float32 [n, map, channel], NaN = none; centred: [map], 1 where a map's median is taken off, else 0;
        least_scale: [map], in the map's units. A number stands for all maps."""
        maps, channels = values.shape[1:]
        least_scale = np.broadcast_to(least_scale, maps)
        centre = np.broadcast_to(centred, maps)[:, None] * _median(values)
        start, scale, shape, base = (np.zeros((maps, channels)) for _ in range(4))
        for number in range(maps):
            for channel in range(channels):
                column = values[:, number, channel] - centre[number, channel]
                finite = column[np.isfinite(column)].astype(np.float64)
                fitted = _fit(finite, float(least_scale[number]))
                start[number, channel], scale[number, channel], shape[number, channel], base[number, channel] = fitted
        return cls(*(each.astype(np.float32) for each in (centre, start, scale, shape, base)))

    def score(self, values: Float32) -> Float32:
        """-log of the rate per row at which normal rows reach `values` [..., map, channel], in nats; >= 0.

        NaN scores 0.
        """
        values = values - self.centre
        over = np.maximum(values - self.start, 0.0) / self.scale
        below = np.clip(values / np.maximum(self.start, _SMALLEST), 0.0, 1.0)
        return np.asarray(np.nan_to_num(self.base * below + np.log1p(self.shape * over) / self.shape), np.float32)

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        return {f"{prefix}.{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> Tails:
        return cls(*(np.asarray(arrays[f"{prefix}.{name}"], np.float32) for name in cls.__slots__))


def _median(values: Float32) -> Float64:
    with np.errstate(all="ignore"):
        present = np.isfinite(values).any(axis=0)
        return np.where(present, np.nanmedian(np.where(present, values, 0.0), axis=0), 0.0)


def _fit(values: Float64, least_scale: float) -> tuple[float, float, float, float]:
    """start, scale, shape, base of one column of finite values."""
    if not len(values):
        return 1.0, 1.0, _PRIOR_SHAPE, 0.0
    start = float(np.quantile(values, _QUANTILE))
    peaks = _peaks(values, start)
    if len(peaks) < _FEWEST_PEAKS:
        peaks = np.array([max(float(values.max()), start)])
    excess = np.sort(np.maximum(peaks - start, _SMALLEST / 100))
    count, mean = len(excess), float(excess.mean())
    found = 0.0
    if count > _FEWEST_PEAKS:
        half_difference = float(excess @ (2 * np.arange(1, count + 1) - count - 1)) / (count * (count - 1))
        found = min(max(2 - mean / half_difference, 0.0), _MAX_SHAPE) if half_difference > 0 else 0.0
    shape = (count * found + _PRIOR_PEAKS * _PRIOR_SHAPE) / (count + _PRIOR_PEAKS)
    scale = max((1 - shape) * mean, _SMALLEST + _LEAST_SCALE * abs(start), least_scale)
    return start, scale, shape, -float(np.log(count / len(values)))


def _peaks(values: Float64, start: float) -> Float64:
    over = np.flatnonzero(values > start)
    if not len(over):
        return np.empty(0)
    begins = np.flatnonzero(np.diff(over, prepend=over[0] - _RUN_STEPS - 1) > _RUN_STEPS)
    return np.maximum.reduceat(values[over], begins)
