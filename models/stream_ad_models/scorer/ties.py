"""What each channel lies off its conditional given the other channels and its own past (imputer/gaussian.py).

A: given every channel over the last 8 steps but the reading itself. B: given the other channels of the same step, with
the channel's own past hidden, so that a stuck, shifted or oscillating channel contradicts it for as long as the fault
lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.imputer.gaussian import GaussianConditional, GaussianMoments

Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["FOLDS", "LAGS", "Ties", "cross_fitted"]

LAGS = (0, 1, 2, 4, 8)
FOLDS = 4
_RIDGE = 1e-2
_LEAST_SD = 0.02  # of a residual, in z-scores
_CARRY_STEPS = 8  # a reading stands in for missing ones that follow for so long


@dataclass(frozen=True, slots=True)
class Ties:
    """The two conditionals, in z-scores. mean: float64 [lag, channel]; weights_a: [lag * channel, channel];
    weights_b: [channel, channel]; sd: float64 [2, channel] of held-out residuals; now: the Gaussian of one step."""

    mean: Float64
    weights_a: Float64
    weights_b: Float64
    sd: Float64
    now: GaussianConditional

    @classmethod
    def fit(cls, moments: GaussianMoments, channels: int, sd: Float64) -> Ties:
        whole = GaussianConditional.fit(moments, _RIDGE)
        now = GaussianConditional(whole.mean[:channels], whole.covariance[:channels, :channels])
        targets = np.arange(channels)
        mean = whole.mean.reshape(len(LAGS), channels)
        weights_a, weights_b = whole.residual_weights(targets)[0], now.residual_weights(targets)[0]
        return cls(mean, weights_a, weights_b, sd, now)

    def residuals(self, z: Float64, first: int) -> tuple[Float64, Float64]:
        """Of rows `first` on: residuals / sd float64 [n, 2, channel], NaN where they stand on a missing reading, and
        what B expects [n, channel]. z: float64 [first + n, channel]; lags before its start count as its first row."""
        begin = max(first - LAGS[-1] - _CARRY_STEPS, 0)
        z, first = z[begin:], first - begin
        whole = _filled(z, self.now)
        rows = np.arange(first, len(z))
        at = _lags(rows)
        lagged = whole[at] - self.mean
        a = lagged.reshape(len(rows), -1) @ self.weights_a
        b = lagged[:, 0] @ self.weights_b
        present = ~np.isnan(z)
        own = present[at].all(axis=1)
        out = np.stack([np.where(own, a, np.nan), np.where(present[rows], b, np.nan)], axis=1) / self.sd
        return out, whole[rows] - b

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """float32: residuals are no more exact than their readings."""
        return {
            "gaussian.mean": self.mean.astype(np.float32),
            "gaussian.weights_a": self.weights_a.astype(np.float32),
            "gaussian.weights_b": self.weights_b.astype(np.float32),
            "gaussian.sd": self.sd,
            "gaussian.covariance": self.now.covariance,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Ties:
        mean, weights_a, weights_b, sd, covariance = (
            np.asarray(arrays[f"gaussian.{name}"], np.float64)
            for name in ("mean", "weights_a", "weights_b", "sd", "covariance")
        )
        return cls(mean, weights_a, weights_b, sd, GaussianConditional(mean[0], covariance))


def _lags(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows each row looks at [n, lag]; before the first one, the first."""
    return np.asarray(np.maximum(rows[:, None] - np.array(LAGS), 0))


def _filled(z: Float64, now: GaussianConditional) -> Float64:
    """z [n, channel] without NaN: a reading carried forward for some steps, else the conditional of its row."""
    missing = np.isnan(z)
    if not missing.any():
        return z
    rows = np.arange(len(z))[:, None]
    last = np.maximum.accumulate(np.where(missing, -1, rows), axis=0)
    carried = (last >= 0) & (rows - last <= _CARRY_STEPS)
    out = np.where(missing & carried, np.take_along_axis(z, np.maximum(last, 0), axis=0), z)
    return now.impute(out)


def cross_fitted(z: Float64) -> tuple[Ties, Float64]:
    """The ties of the whole history, and each row's residuals [n, 2, channel] by the ties of the other folds."""
    channels = z.shape[1]
    fold = np.arange(len(z)) * FOLDS // len(z)
    rough = GaussianConditional.fit(GaussianMoments.of(np.nan_to_num(z)), _RIDGE)
    lagged = _filled(z, rough)[_lags(np.arange(len(z)))].reshape(len(z), -1)
    parts = [GaussianMoments.of(lagged[fold == number]) for number in range(FOLDS)]
    whole = parts[0] + parts[1] + parts[2] + parts[3]
    residuals = np.empty((len(z), 2, channels))
    for number, part in enumerate(parts):
        rows = np.flatnonzero(fold == number)
        before = min(LAGS[-1], int(rows[0]))
        others = Ties.fit(whole - part, channels, np.ones((2, channels)))
        residuals[rows] = others.residuals(z[rows[0] - before : rows[-1] + 1], before)[0]
    present = np.isfinite(residuals)
    power = np.where(present, residuals, 0.0) ** 2
    sd = np.sqrt(power.sum(axis=0) / np.maximum(present.sum(axis=0), 1)) + _LEAST_SD
    return Ties.fit(whole, channels, sd), residuals / sd
