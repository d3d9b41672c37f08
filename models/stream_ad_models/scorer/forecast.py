"""Linear forecast one step ahead: each channel from its last 16 readings, by ridge regression on the history.

Its errors show short events on few of many channels, which a distance over all channels averages out (ADR 22).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

__all__ = ["LAGS", "fit_forecast", "forecast", "forecast_errors", "held_out_errors"]

LAGS = 16
_MOST_ROWS = 4096  # of the history, the latest: enough for 17 coefficients
_RIDGE = 1e-4  # per row: the coefficients of a perfectly periodic channel are not unique


def fit_forecast(z: Float64) -> Float64:
    """z-scores [n, channel], NaN = no reading -> coefficients [1 + LAGS, channel]: the constant, then lag 1, 2 ..."""
    online = _carried(z[-_MOST_ROWS:])
    out = np.zeros((1 + LAGS, online.shape[1]))
    if len(online) <= LAGS + 1:
        return out
    for channel, values in enumerate(online.T):
        windows = np.lib.stride_tricks.sliding_window_view(values, LAGS + 1)
        inputs = np.concatenate([np.ones((len(windows), 1)), windows[:, -2::-1]], axis=1)
        gram = inputs.T @ inputs
        gram[np.diag_indices_from(gram)] += _RIDGE * len(inputs)
        out[:, channel] = np.linalg.solve(gram, inputs.T @ windows[:, -1])
    return out


def forecast(z: Float64, coefficients: Float64, last: int | None = None) -> Float64:
    """Each row (or the `last` ones) from those before it, [..., n, channel]; the last reading replaces missing ones.
    coefficients: [..., 1 + LAGS, channel], their leading axes those of z."""
    steps = z.shape[-2]
    begin = 0 if last is None else steps - last
    filled = _carried(z)
    if begin < LAGS:
        before = np.repeat(filled[..., :1, :], LAGS - begin, axis=-2)
        filled = np.concatenate([before, filled], axis=-2)
    first = max(begin, LAGS)
    out = np.empty((*z.shape[:-2], steps - begin, z.shape[-1]))
    out[...] = coefficients[..., :1, :]
    for lag in range(1, coefficients.shape[-2]):
        out += coefficients[..., lag : lag + 1, :] * filled[..., first - lag : first - lag + steps - begin, :]
    return out


def forecast_errors(z: Float64, coefficients: Float64, last: int | None = None) -> Float64:
    """Signed errors [..., n, channel] (or of the `last` rows); NaN where this reading or the one before is missing."""
    begin = 0 if last is None else z.shape[-2] - last
    error = z[..., begin:, :] - forecast(z, coefficients, last)
    if begin == 0:
        error[..., 1:, :][np.isnan(z[..., :-1, :])] = np.nan
        error[..., :1, :] = np.nan
    else:
        error[np.isnan(z[..., begin - 1 : -1, :])] = np.nan
    return error


def held_out_errors(z: Float64) -> Float64:
    """Signed errors [n, channel] of each half of the history by the other half's coefficients."""
    middle = len(z) // 2
    first, second = fit_forecast(z[:middle]), fit_forecast(z[middle:])
    return np.concatenate([forecast_errors(z, second)[:middle], forecast_errors(z, first)[middle:]])


def _carried(z: Float64) -> Float64:
    """Missing readings replaced by the last one, by the first one before it, by 0 in a channel without any."""
    present = ~np.isnan(z)
    if present.all():
        return z
    steps = np.arange(z.shape[-2])[:, None]
    last = np.maximum.accumulate(np.where(present, steps, -1), axis=-2)
    first = present.argmax(axis=-2)[..., None, :]
    return np.nan_to_num(np.take_along_axis(z, np.where(last < 0, first, last), axis=-2))
