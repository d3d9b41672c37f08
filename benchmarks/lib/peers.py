"""What a scorer is held against on faults: simple detectors of the field, each (fitted rows, rows) -> scores.

None sees a label. `ridge` and `limits` fill missing readings, and scale channels that were constant in the fitted rows,
with a look at all scored rows. 1 = the method's own limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from benchmarks.lib.episodes import Scored
from stream_ad import Detector

__all__ = ["PEERS", "product", "standardised"]

Float64 = NDArray[np.float64]

_FOLDS = 4
_SMOOTHING = (1.0, 0.3, 0.1, 0.03)
_OWN_LAGS = (1, 2, 4, 8)
_RIDGE = 1e-2
_LEAD_IN = 300  # fitted rows that a scorer sees again before the first scored one


def product(scorer: str) -> Callable[[Float64, Float64], Scored]:
    """A scorer of the product through the pipeline that a worker runs."""

    def score(fitted: Float64, rows: Float64) -> Scored:
        columns = [f"c{number}" for number in range(rows.shape[1])]
        detector = Detector(scorer=scorer).fit(pd.DataFrame(fitted, columns=columns))
        lead = fitted[-_LEAD_IN:]
        found = detector.score(pd.DataFrame(np.vstack([lead, rows]), columns=columns)).iloc[len(lead) :]
        shares = found[[f"attribution.{name}" for name in columns]].to_numpy(np.float64)
        return Scored(np.nan_to_num(found["score"].to_numpy(np.float64)), np.nan_to_num(shares))

    return score


def standardised(fitted: Float64, rows: Float64) -> tuple[Float64, Float64]:
    """Both in z-scores of the fitted rows, missing readings carried forward, clipped at 20."""
    full = pd.DataFrame(np.vstack([fitted, rows])).ffill().bfill().fillna(0.0).to_numpy()
    past, now = full[: len(fitted)], full[len(fitted) :]
    mean, sd = past.mean(axis=0), past.std(axis=0)
    unit = np.where(sd > 1e-9, sd, np.maximum(np.abs(now - mean).max(axis=0) / 10, 1e-6))
    return np.clip((past - mean) / unit, -20, 20), np.clip((now - mean) / unit, -20, 20)


def _design(z: Float64, channel: int) -> Float64:
    own = np.stack([np.roll(z[:, channel], lag) for lag in _OWN_LAGS], axis=1)
    own[: max(_OWN_LAGS)] = z[: max(_OWN_LAGS), [channel]]
    return np.hstack([np.delete(z, channel, axis=1), own, np.ones((len(z), 1))])


def _solved(x: Float64, y: Float64) -> Float64:
    return np.asarray(np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y))


def ridge(fitted: Float64, rows: Float64) -> Scored:
    """Each channel from the others and its own past; residuals smoothed at four lengths, the worst over its own largest
    held-out value. The peer to beat on plants of many channels."""
    past, now = standardised(fitted, rows)
    fold = np.arange(len(past)) * _FOLDS // len(past)
    excess = np.zeros(now.shape)
    for channel in range(now.shape[1]):
        x, y = _design(past, channel), past[:, channel]
        held_out = np.empty(len(y))
        for number in range(_FOLDS):
            inside = fold == number
            held_out[inside] = y[inside] - x[inside] @ _solved(x[~inside], y[~inside])
        joined = np.vstack([past, now])
        live = now[:, channel] - _design(joined, channel)[len(past) :] @ _solved(x, y)
        for gain in _SMOOTHING:
            smooth = lfilter([gain], [1, gain - 1], np.concatenate([held_out, live]))
            limit = max(float(np.abs(smooth[: len(past)]).max()), 1e-6)
            excess[:, channel] = np.maximum(excess[:, channel], np.abs(smooth[len(past) :]) / limit)
    return Scored(excess.max(axis=1), excess)


def limits(fitted: Float64, rows: Float64) -> Scored:
    """Learnt limits of each channel: range, step, run without a change."""
    past, now = standardised(fitted, rows)
    middle = np.median(past, axis=0)
    span = np.maximum(np.abs(past - middle).max(axis=0), 1e-6)
    joined = np.vstack([past[-1:], now])
    step = np.abs(np.diff(joined, axis=0)) / np.maximum(np.abs(np.diff(past, axis=0)).max(axis=0), 1e-6)
    longest = np.maximum(_runs(past).max(axis=0), 1)
    still = _runs(np.vstack([past[-1000:], now]))[-len(now) :] / longest
    excess = np.maximum(np.maximum(np.abs(now - middle) / span, step), still)
    return Scored(excess.max(axis=1), excess)


def _runs(z: Float64) -> Float64:
    """Rows since the channel last changed."""
    out = np.zeros(z.shape)
    for row in range(1, len(z)):
        out[row] = np.where(z[row] == z[row - 1], out[row - 1] + 1, 0)
    return out


def by_chance(fitted: Float64, rows: Float64) -> Scored:
    rng = np.random.default_rng(len(rows))
    return Scored(rng.random(len(rows)), rng.random(rows.shape))


PEERS: Mapping[str, Callable[[Float64, Float64], Scored]] = {
    "gaussian": product("gaussian"),
    "universal": product("universal"),
    "memory": product("memory"),
    "control": product("control"),
    "ar": product("ar"),
    "pca": product("pca"),
    "kmeans": product("kmeans"),
    "ridge": ridge,
    "limits": limits,
    "random": by_chance,
}
