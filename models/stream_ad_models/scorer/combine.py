"""From readings of memories to one raw score a slot.

A window's reading belongs to its middle, as far as the delay lets it: slot s takes each length at the window that ends
half a length after s, or at the last one in. (Windows read at their ends instead: VUS-PR .62, at their middles .77.)
Lengths are averaged as logs, so that one length alone cannot make an alarm; each map (a memory, or an error point by
point) is set against its own held-out 99% quantile, and the maps are averaged; raw is that log-excess with a soft knee
at 0. The harder max(u, 0) of each map before the sum loses accuracy (.780 against .804, and .745 against .762), as do
soft maxima. A map's weight is divided by the root of how far its held-out 90% quantile lies over its median: what
fluctuates little on normal data says more. No labels are in it.
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
_SPREAD_QUANTILE = 0.9  # a tenth of the history may be anomalous and say nothing of how much a map fluctuates
_SMALLEST_SPREAD = 0.05  # of a map's held-out values, in logs
_KNEE = 2.0  # log-excess u -> log(1 + exp(2 u)) / 2: normal slots come out near .15, the edge at .35, far ones at u


@dataclass(frozen=True, slots=True)
class ScoreCombiner:
    """edges: float64 [..., map], the held-out 99% quantile of each map's slot values; weights: float64 [..., map], of
    sum 1. Leading axis, if any: series."""

    edges: Float64
    weights: Float64

    @classmethod
    def stacked(cls, heads: Sequence[ScoreCombiner]) -> ScoreCombiner:
        return cls(np.stack([combiner.edges for combiner in heads]), np.stack([combiner.weights for combiner in heads]))

    @classmethod
    def fit(cls, held_out: Sequence[Float64], weights: Sequence[float]) -> ScoreCombiner:
        """held_out: per map, slot values of the history, each read without its own fold; weights: before they are set
        against how much each map fluctuates on them."""
        edges = np.array([np.quantile(values, _QUANTILE) for values in held_out])
        spreads = np.array([np.quantile(values, _SPREAD_QUANTILE) - np.median(values) for values in held_out])
        wanted = np.array(weights, np.float64) / np.sqrt(np.maximum(spreads, _SMALLEST_SPREAD))
        return cls(edges, wanted / wanted.sum())

    def raw(self, values: Sequence[Float64]) -> Float64:
        """values: per map, log values of any one shape (of stacked heads [series, ...]) -> raw scores of that shape,
        > 0."""
        excess = np.zeros(np.shape(values[0]))
        lead = self.edges.shape[:-1] + (1,) * (excess.ndim - self.edges.ndim + 1)
        for number, value in enumerate(values):
            excess += self.weights[..., number].reshape(lead) * (value - self.edges[..., number].reshape(lead))
        return np.asarray(np.logaddexp(0.0, _KNEE * excess) / _KNEE, np.float64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"head.edges": self.edges, "head.weights": self.weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> ScoreCombiner:
        return cls(np.asarray(arrays["head.edges"], np.float64), np.asarray(arrays["head.weights"], np.float64))


def attribution(parts: Float32, scored: NDArray[np.bool_]) -> Float32:
    """Channels' parts [n, scored channel] >= 0 -> shares [n, channel] that sum to 1; alike where there is no part."""
    wide = parts.astype(np.float64)
    total = wide.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, wide / np.where(total > 0, total, 1.0), 1.0 / parts.shape[1])
    out = np.zeros((len(parts), len(scored)), np.float32)
    out[:, scored] = shares
    return out
