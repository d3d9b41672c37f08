"""Prediction intervals: their width, measured on data the model was not trained on and stored in the model card.

The log v output is trained with a Gaussian loss, but the errors are a mixture with heavier tails, so no single Gaussian
factor is right at 50% and at 99%. The card therefore holds one temperature (right at 90%) and a factor per level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["INTERVAL_LEVELS", "NEUTRAL_INTERVALS", "interval_factor", "interval_factors", "series_intervals"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

INTERVAL_LEVELS = (0.5, 0.9, 0.99)
_NORMAL_FACTORS = (0.6745, 1.6449, 2.5758)  # half-widths of these intervals of a standard normal
NEUTRAL_INTERVALS: dict[str, Any] = {  # of a model that is not measured yet
    "temperature": 1.0,
    "bands": dict(zip(map(str, INTERVAL_LEVELS), _NORMAL_FACTORS, strict=True)),
}
_PRIOR_TAIL = 4.0  # expected errors outside an interval at which its quantile and the prior have equal weight
_SMALLEST = 1e-6
_STRIPES = (1, 2, 4, 8, 16, 32)


def series_intervals(
    errors: Float32, card_factors: Sequence[float], levels: Sequence[float] = INTERVAL_LEVELS
) -> Float64:
    """Half-width of each interval in predictive standard deviations: float64 [level, channel].

    errors: (reading - mean) / std of readings the model was not trained on, float32 [n, channel], NaN = no reading.
    card_factors: `interval_factor(level)` of the levels. The card's are the prior of the series', these of a channel's.
    """
    if errors.ndim != 2:
        raise ValueError(f"errors: expected shape [n, channel], found {list(errors.shape)}")
    if len(card_factors) != len(levels):
        raise ValueError(f"card_factors: expected one for each of {len(levels)} levels, found {len(card_factors)}")
    sizes = np.abs(errors.astype(np.float64))
    of_series = _shrunk(sizes.reshape(-1, 1), np.log(np.array(card_factors, np.float64))[:, None], levels)
    return np.asarray(np.exp(_shrunk(sizes, of_series, levels)))


def _shrunk(sizes: Float64, prior: Float64, levels: Sequence[float]) -> Float64:
    """Logs of the columns' quantiles, shrunk towards `prior` [level, 1]: [level, column]."""
    out = np.repeat(prior, sizes.shape[1], axis=1)
    for column, values in enumerate(sizes.T):
        present = values[~np.isnan(values)]
        if len(present):
            beyond = len(present) * (1 - np.array(levels))
            weight = beyond / (beyond + _PRIOR_TAIL)
            quantiles = np.log(np.maximum(np.quantile(present, levels), _SMALLEST))
            out[:, column] = weight * quantiles + (1 - weight) * prior[:, 0]
    return out


class _Imputer(Protocol):
    def standard_errors(self, windows: Float32, stripe: int) -> Float32: ...


def interval_factors(imputer: _Imputer, windows: Float32) -> dict[str, Any]:
    """The card's `temperature` and `bands`, from windows [batch, window, channel] the model was not trained on.

    Errors under stripe masks of 1 to 32 steps have equal weight. temperature: multiplies the predictive standard
    deviation so that 90% of the readings fall within 1.645 of it. bands: half-width per level in such deviations.
    """
    errors = np.concatenate([np.abs(imputer.standard_errors(windows, stripe)) for stripe in _STRIPES])
    halves = np.quantile(errors, INTERVAL_LEVELS)
    temperature = max(float(halves[1]) / _NORMAL_FACTORS[1], 1e-3)
    bands = {str(each): round(float(half) / temperature, 4) for each, half in zip(INTERVAL_LEVELS, halves, strict=True)}
    return {"temperature": round(temperature, 4), "bands": bands}


def interval_factor(factors: Mapping[str, float], coverage: float) -> float:
    """Half-width, in predictive standard deviations, of the interval that holds `coverage` of normal readings.

    Between the measured levels the ratio to the normal factor is interpolated, outside them constant.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage: expected a share between 0 and 1, found {coverage}")
    measured = sorted((float(level), factor) for level, factor in factors.items())
    normal = [_half_width(level) for level, _ in measured]
    ratios = [factor / half for (_, factor), half in zip(measured, normal, strict=True)]
    wanted = _half_width(coverage)
    return wanted * float(np.interp(wanted, normal, ratios))


def _half_width(coverage: float) -> float:
    """Half-width of a standard normal's central interval."""
    return NormalDist().inv_cdf(0.5 + coverage / 2)
