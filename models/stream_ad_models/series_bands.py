"""How wide the bands of one series must be: quantiles of its own standardised errors, without labels.

A card's factors hold over the synthetic series the imputer learned from; a real series is smoother or rougher than
these (50% bands held 54 to 78% of the readings, benchmarks/bands.py). The rule is split conformal prediction on
normalised errors (Lei et al. 2018, section 5.2); where few errors lie beyond a band it is drawn towards what more of
them say: a channel's own quantile towards that of all channels of the series, and that towards the card's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.coverage import BAND_LEVELS

__all__ = ["series_bands"]

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
