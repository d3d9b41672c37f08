"""How wide the predictive bands must be: measured on data the model has not seen, stored in the model's card.

The log v head is trained with a Gaussian loss, but what it stands for is a mixture with heavier tails, so no single
Gaussian factor is right at 50% and at 99%. The card therefore holds one temperature (right at 90%) and the factors
of the other bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BAND_LEVELS", "NEUTRAL_BANDS", "band_factor", "band_factors", "series_bands"]


BAND_LEVELS = (0.5, 0.9, 0.99)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_PRIOR_TAIL = 4.0  # errors expected beyond a band at which its own quantile and the wider one weigh alike
_SMALLEST = 1e-6


def series_bands(errors: Float32, card_factors: Sequence[float], levels: Sequence[float] = BAND_LEVELS) -> Float64:
    """Half-width of each band in predictive standard deviations: float64 [level, channel].

    errors: (reading - mean) / std of readings the model was not trained on, float32 [n, channel], NaN = no reading.
    card_factors: `band_factor(level)` of the levels. A channel with no error gets the series', a series with none the
    card's.
    """
    if errors.ndim != 2:
        raise ValueError(f"errors: expected shape [n, channel], found {list(errors.shape)}")
    if len(card_factors) != len(levels):
        raise ValueError(f"card_factors: expected one for each of {len(levels)} levels, found {len(card_factors)}")
    sizes = np.abs(errors.astype(np.float64))
    of_series = _drawn(sizes.reshape(-1, 1), np.log(np.array(card_factors, np.float64))[:, None], levels)
    return np.asarray(np.exp(_drawn(sizes, of_series, levels)))


def _drawn(sizes: Float64, wider: Float64, levels: Sequence[float]) -> Float64:
    """Logs of the columns' quantiles drawn towards `wider` [level, 1]: [level, column]."""
    out = np.repeat(wider, sizes.shape[1], axis=1)
    for column, values in enumerate(sizes.T):
        present = values[~np.isnan(values)]
        if not len(present):
            continue
        beyond = len(present) * (1 - np.array(levels))
        weight = beyond / (beyond + _PRIOR_TAIL)
        own = np.log(np.maximum(np.quantile(present, levels), _SMALLEST))
        out[:, column] = weight * own + (1 - weight) * wider[:, 0]
    return out


_NORMAL_FACTORS = (0.6745, 1.6449, 2.5758)  # half-widths of those bands of a standard normal
_GAUSSIAN = dict(zip(map(str, BAND_LEVELS), _NORMAL_FACTORS, strict=True))
NEUTRAL_BANDS: dict[str, Any] = {"temperature": 1.0, "bands": _GAUSSIAN}  # of a model not yet measured
_STRIPES = (1, 2, 4, 8, 16, 32)


class _Predicts(Protocol):
    def standard_errors(self, windows: Float32, stripe: int) -> Float32: ...


def band_factors(imputer: _Predicts, windows: Float32) -> dict[str, Any]:
    """The card's `temperature` and `bands`, from windows [batch, window, channel] the model was not trained on.

    Gratings of 1 to 32 steps weigh alike. temperature: multiplies the head's standard deviation so that 90% of the
    readings fall within 1.645 of it. bands: half-width of each band in such standard deviations.
    """
    errors = np.concatenate([np.abs(imputer.standard_errors(windows, stripe)) for stripe in _STRIPES])
    halves = np.quantile(errors, BAND_LEVELS)
    temperature = max(float(halves[1]) / _NORMAL_FACTORS[1], 1e-3)
    bands = {str(level): round(float(half) / temperature, 4) for level, half in zip(BAND_LEVELS, halves, strict=True)}
    return {"temperature": round(temperature, 4), "bands": bands}


def band_factor(bands: Mapping[str, float], coverage: float) -> float:
    """Half-width, in predictive standard deviations, of the band that holds `coverage` of normal readings.

    Between the measured levels the ratio to the normal factor is interpolated; outside them it is held.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage: expected a share between 0 and 1, found {coverage}")
    measured = sorted((float(level), factor) for level, factor in bands.items())
    normal = [_half_width(level) for level, _ in measured]
    ratios = [factor / own for (_, factor), own in zip(measured, normal, strict=True)]
    wanted = _half_width(coverage)
    return wanted * float(np.interp(wanted, normal, ratios))


def _half_width(coverage: float) -> float:
    """Half-width of a standard normal's central band."""
    return NormalDist().inv_cdf(0.5 + coverage / 2)
