"""Baseline: an autoregression per channel (statsmodels), its one-step-ahead errors as scores.

statsmodels.tsa.ar_model.ar_select_order selects each channel's lags by AIC; every window is scored from its rows alone.
"""

from __future__ import annotations

from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from statsmodels.tsa.ar_model import ar_select_order

from stream_ad_models.baselines.base import Arrays, ErrorFunction, Learned, PointErrors, PointwiseScorer

Float64 = NDArray[np.float64]

__all__ = ["ArScorer"]

_MOST_LAGS = 16
_MOST_ROWS = 4096  # of the history, the latest: enough for 17 coefficients
_FLOOR = 0.03  # smallest standard deviation of the errors, in z-scores


class ArScorer(PointwiseScorer):
    name = "ar"

    def learn(self, z: Float64) -> Learned:
        """Held-out errors: each half of the history predicted by the other half's coefficients."""
        middle = len(z) // 2
        first, second = _fit(z[:middle]), _fit(z[middle:])
        held_out = np.concatenate([z[:middle] - _predict(z, second)[:middle], z[middle:] - _predict(z, first)[middle:]])
        coefficients = _fit(z)
        spread = np.maximum(np.sqrt(np.nan_to_num(np.square(z - _predict(z, coefficients))).mean(axis=0)), _FLOOR)
        arrays = {"ar.coefficients": coefficients, "ar.spread": spread}
        return Learned(arrays, [np.nan_to_num(np.square(held_out / spread))])

    def error_function(self, arrays: Arrays) -> ErrorFunction:
        coefficients = np.asarray(arrays["ar.coefficients"], np.float64)
        spread = np.asarray(arrays["ar.spread"], np.float64)

        def errors(z: Float64, _: int) -> PointErrors:
            expected = _predict(z, coefficients)
            squares = np.nan_to_num(np.square((z - expected) / spread))
            squares[:_MOST_LAGS] = 0.0  # predicted from rows outside the window
            return PointErrors([squares], expected, np.broadcast_to(spread, z.shape))

        return errors


def _fit(z: Float64) -> Float64:
    """Coefficients [1 + 16, channel]: the constant, then lag 1, 2 ...; 0 for lags that AIC leaves out."""
    recent = np.nan_to_num(z[-_MOST_ROWS:])  # a missing reading counts as the centre, as in _predict
    out = np.zeros((1 + _MOST_LAGS, z.shape[1]))
    for channel, values in enumerate(recent.T):
        if np.ptp(values) == 0:
            out[0, channel] = values[0]
            continue
        # A perfectly periodic channel makes statsmodels divide by a zero variance; the result is checked instead.
        with catch_warnings(), np.errstate(all="ignore"):
            simplefilter("ignore")
            order = ar_select_order(values, maxlag=_MOST_LAGS, ic="aic")
            fitted = order.model.fit()
        lags = [] if order.ar_lags is None else list(order.ar_lags)
        params = np.asarray(fitted.params, np.float64)
        if np.isfinite(params).all():
            out[0, channel] = params[0]
            out[lags, channel] = params[1:]
    return out


def _predict(z: Float64, coefficients: Float64) -> Float64:
    """One-step-ahead predictions [n, channel]."""
    filled = np.nan_to_num(z)
    out = np.tile(coefficients[0], (len(z), 1))
    for lag in range(1, _MOST_LAGS + 1):
        out[lag:] += coefficients[lag] * filled[:-lag]
    return out
