"""Baseline: each channel less its level and its repeating cycle (statsmodels), the rest as scores.

A channel's period is the strongest local maximum of its autocorrelation (tsa.stattools.acf), its cycle the seasonal
component of tsa.seasonal.seasonal_decompose: means by phase of the detrended values. The history has no slot numbers,
so every window finds its phase: the one with the smallest sum of absolute errors, robust to an anomaly of less than
half a window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from statsmodels.tsa.seasonal import seasonal_decompose
from statsmodels.tsa.stattools import acf

from stream_ad_models.baselines.base import Arrays, ErrorFunction, Learned, PointErrors, PointwiseScorer
from stream_ad_models.defaults import WINDOW_STEPS

Float64 = NDArray[np.float64]

__all__ = ["SeasonalScorer"]

_MOST_ROWS = 4096  # of the history, the latest
_SHORTEST = 4
_WEAK = 0.2  # least height of a maximum of the autocorrelation, and least rise above the lowest value before it
_FLOOR = 0.03  # smallest standard deviation of the errors, in z-scores


class SeasonalScorer(PointwiseScorer):
    name = "seasonal"

    def learn(self, z: Float64) -> Learned:
        """Held-out errors: each half of the history less the other half's level and cycle."""
        middle = len(z) // 2
        halves = (z[:middle], z[middle:])
        pairs = zip(halves, reversed([_fit(half) for half in halves]), strict=True)
        held_out = np.concatenate([_residuals(half, *other) for half, other in pairs])
        levels, cycles = _fit(z)
        spread = np.maximum(np.sqrt(np.square(_residuals(z, levels, cycles)).mean(axis=0)), _FLOOR)
        arrays = {"seasonal.levels": levels, "seasonal.spread": spread, **_pack(cycles)}
        return Learned(arrays, [np.square(held_out / spread)])

    def error_function(self, arrays: Arrays) -> ErrorFunction:
        levels, cycles = np.asarray(arrays["seasonal.levels"], np.float64), _unpack(arrays)
        spread = np.asarray(arrays["seasonal.spread"], np.float64)

        def errors(z: Float64, _: int) -> PointErrors:
            expected = _expect(z, levels, cycles)
            squares = np.nan_to_num(np.square((z - expected) / spread))
            return PointErrors([squares], expected, np.broadcast_to(spread, z.shape))

        return errors


def _fit(z: Float64) -> tuple[Float64, list[Float64]]:
    """Levels [channel]; cycles, each [period of the channel], of sum 0; [0] for a channel without a period."""
    levels, cycles = np.zeros(z.shape[1]), []
    for channel, values in enumerate(z[-_MOST_ROWS:].T):
        present = ~np.isnan(values)
        levels[channel] = values[present].mean() if present.any() else 0.0
        period = _period(values) if present.any() else 1
        if period > 1:
            at = np.arange(len(values))
            whole = np.interp(at, at[present], values[present])
            cycles.append(np.asarray(seasonal_decompose(whole, period=period).seasonal[:period], np.float64))
        else:
            cycles.append(np.zeros(1))
    return levels, cycles


def _period(values: Float64) -> int:
    """Steps from 4 to a quarter of float64 [n] (NaN = no reading, at least one reading); 1 = no period."""
    longest = len(values) // 4
    if longest < _SHORTEST or np.nanmax(values) == np.nanmin(values):
        return 1
    found = acf(values, nlags=longest + 1, fft=True, missing="conservative")
    lags = np.arange(_SHORTEST, longest + 1)
    here, lowest = found[lags], np.minimum.accumulate(found)[lags]
    peaks = (here > found[lags - 1]) & (here >= found[lags + 1]) & (here >= _WEAK) & (here - lowest >= _WEAK)
    return int(lags[np.where(peaks, here, -np.inf).argmax()]) if peaks.any() else 1


def _expect(z: Float64, levels: Float64, cycles: list[Float64]) -> Float64:
    """Level plus cycle at the phase that fits the rows best [n, channel]; n is at most a window."""
    out = np.tile(levels, (len(z), 1))
    for channel, cycle in enumerate(cycles):
        if len(cycle) > 1:
            # One row per phase: the cycle over the window.
            turned = np.lib.stride_tricks.sliding_window_view(np.resize(cycle, len(cycle) + len(z) - 1), len(z))
            seen = ~np.isnan(z[:, channel])
            errors = np.abs(turned[:, seen] - (z[seen, channel] - levels[channel])).sum(axis=1)
            out[:, channel] += turned[errors.argmin()]
    return out


def _residuals(z: Float64, levels: Float64, cycles: list[Float64]) -> Float64:
    """float64 [n, channel], window by window; 0 for missing readings."""
    parts = [z[at : at + WINDOW_STEPS] for at in range(0, len(z), WINDOW_STEPS)]
    return np.concatenate([np.nan_to_num(part - _expect(part, levels, cycles)) for part in parts])


def _pack(cycles: list[Float64]) -> dict[str, NDArray[np.generic]]:
    return {
        "seasonal.periods": np.asarray([len(cycle) for cycle in cycles], np.int64),
        "seasonal.cycles": np.concatenate(cycles),
    }


def _unpack(arrays: Arrays) -> list[Float64]:
    ends = np.cumsum(np.asarray(arrays["seasonal.periods"], np.int64))
    return list(np.split(np.asarray(arrays["seasonal.cycles"], np.float64), ends[:-1]))
