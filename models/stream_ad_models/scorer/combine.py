"""Combines the values of score components into one raw score a slot.

Each component (a memory, or an error point by point) is taken relative to its held-out 99% quantile; the weighted mean
of these log-excesses, with a soft knee at 0, is the raw score. A component's weight is divided by the root of how far
its held-out 90% quantile lies above its median: one that fluctuates little on normal data is the more informative. No
labels are used. What was tried instead: ADR 22.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["ScoreCombiner", "attribution"]

_QUANTILE = 0.99
_SPREAD_QUANTILE = 0.9  # robust to a history of which a tenth is anomalous
_SMALLEST_SPREAD = 0.05  # of a component's held-out values, in logs
_KNEE = 2.0  # log-excess u -> log(1 + exp(2 u)) / 2: about .15 on normal slots, .35 at the quantile, u far above it


@dataclass(frozen=True, slots=True)
class ScoreCombiner:
    """held_out_q99: float64 [..., component], 99% quantile of each component's held-out slot values; weights: float64
    [..., component], of sum 1. Leading axis, if any: series."""

    held_out_q99: Float64
    weights: Float64

    @classmethod
    def stacked(cls, combiners: Sequence[ScoreCombiner]) -> ScoreCombiner:
        return cls(np.stack([each.held_out_q99 for each in combiners]), np.stack([each.weights for each in combiners]))

    @classmethod
    def fit(cls, held_out: Sequence[Float64], weights: Sequence[float]) -> ScoreCombiner:
        """held_out: per component, slot values of the history, each read without its own fold; weights: per component,
        before the division by its fluctuation."""
        q99 = np.array([np.quantile(values, _QUANTILE) for values in held_out])
        spreads = np.array([np.quantile(values, _SPREAD_QUANTILE) - np.median(values) for values in held_out])
        wanted = np.array(weights, np.float64) / np.sqrt(np.maximum(spreads, _SMALLEST_SPREAD))
        return cls(q99, wanted / wanted.sum())

    def raw(self, values: Sequence[Float64]) -> Float64:
        """values: per component, log values of one shape (of stacked combiners [series, ...]) -> raw scores > 0 of that
        shape."""
        excess = np.zeros(np.shape(values[0]))
        lead = self.weights.shape[:-1] + (1,) * (excess.ndim - self.weights.ndim + 1)
        for number, value in enumerate(values):
            excess += self.weights[..., number].reshape(lead) * (value - self.held_out_q99[..., number].reshape(lead))
        return np.asarray(np.logaddexp(0.0, _KNEE * excess) / _KNEE, np.float64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"head.edges": self.held_out_q99, "head.weights": self.weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> ScoreCombiner:
        return cls(np.asarray(arrays["head.edges"], np.float64), np.asarray(arrays["head.weights"], np.float64))


def attribution(parts: Float32, scored: NDArray[np.bool_]) -> Float32:
    """Channels' parts [n, scored channel] >= 0 -> shares [n, channel] of sum 1; equal shares where all parts are 0."""
    wide = parts.astype(np.float64)
    total = wide.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, wide / np.where(total > 0, total, 1.0), 1.0 / parts.shape[1])
    out = np.zeros((len(parts), len(scored)), np.float32)
    out[:, scored] = shares
    return out
