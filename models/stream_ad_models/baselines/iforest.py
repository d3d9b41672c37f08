"""Baseline: isolation forest (scikit-learn) over rows and short windows.

Liu, Ting and Zhou, "Isolation forest" (2008): score 2^(-E[h] / c(n)), h = steps to isolate a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from stream_ad_models.baselines.trees import Trees, TreeScorer
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS

Float64 = NDArray[np.float64]

__all__ = ["IsolationForestScorer"]

_TREES = 100
_SAMPLE = 256


class IsolationForestScorer(TreeScorer):
    name = "iforest"
    revision = "1"

    def __init__(self, seed: int = 0, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(hop_steps=hop_steps, delay_steps=delay_steps)
        self._seed = seed

    def grow(self, rows: Float64) -> Trees:
        sample = min(_SAMPLE, len(rows))
        forest = IsolationForest(n_estimators=_TREES, max_samples=sample, random_state=self._seed).fit(rows)
        return Trees.joined([_tree(each.tree_, sample) for each in forest.estimators_])

    def scores(self, values: Float64) -> Float64:
        return np.asarray(2.0**-values, np.float64)


def _tree(fitted: Any, sample: int) -> Trees:
    """value = h / c(sample): depth of the leaf, and c of the rows that are still together there."""
    left, right = np.asarray(fitted.children_left, np.int64), np.asarray(fitted.children_right, np.int64)
    mass = np.asarray(fitted.n_node_samples, np.float64)
    depth = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0):  # parents come before their children
        depth[[left[node], right[node]]] = depth[node] + 1
    value = (depth + _mean_depth(mass)) / _mean_depth(np.array([sample], np.float64))
    feature = np.where(left >= 0, np.asarray(fitted.feature, np.int64), -1)
    ends = np.maximum(left, 0), np.maximum(right, 0)
    return Trees(feature, np.asarray(fitted.threshold, np.float64), *ends, mass, value, np.zeros(1, np.int64))


def _mean_depth(rows: Float64) -> Float64:
    """c(n), the mean depth of a random binary search tree of n rows (their equation 1)."""
    many = np.maximum(rows, 2.0)
    usual = 2 * (np.log(np.maximum(many - 1, 1)) + np.euler_gamma) - 2 * (many - 1) / many
    return np.asarray(np.select([rows <= 1, rows == 2], [0.0, 1.0], usual), np.float64)
