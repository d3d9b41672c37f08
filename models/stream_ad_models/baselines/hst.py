"""Baseline: half-space trees (river) over rows and short windows.

Tan, Ting and Liu, "Fast anomaly detection for streaming data" (2011): the mass of a row's half-space, times 2^depth.
They learn online in windows; here the fitted history is their one window, so that a score depends on the look-back
alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees

from stream_ad_models.baselines.trees import Trees, TreeScorer
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS

Float64 = NDArray[np.float64]

__all__ = ["HalfSpaceScorer"]

_TREES = 25
_HEIGHT = 8
_MOST_ROWS = 4096  # of the history, evenly spaced
_MARGIN = 0.5  # how far beyond the history's range the trees look, in ranges
_END_SHARE = 0.1  # the way ends at a node with less than this share of the rows (their sizeLimit)


class HalfSpaceScorer(TreeScorer):
    name = "hst"
    revision = "1"

    def __init__(self, seed: int = 0, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(hop_steps=hop_steps, delay_steps=delay_steps)
        self._seed = seed

    def grow(self, rows: Float64) -> Trees:
        picked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).astype(np.int64))
        low, high = rows.min(axis=0), rows.max(axis=0)
        margin = _MARGIN * (high - low)
        ranges = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
        limits: dict[Hashable, tuple[float, float]] = dict(enumerate(ranges))
        # Any: river types its methods in part only.
        model: Any = HalfSpaceTrees(_TREES, height=_HEIGHT, window_size=len(picked), limits=limits, seed=self._seed)
        for row in rows[picked].tolist():
            model.learn_one(dict(enumerate(row)))
        return Trees.joined([_tree(root, len(picked)) for root in model.trees])

    def scores(self, values: Float64) -> Float64:
        return np.asarray(-np.log(values + 1.0), np.float64)


def _tree(root: Any, rows: int) -> Trees:
    """value = the mass of every node on the way times 2^depth, added up, in shares of the rows."""
    nodes = [(root, 0, 0.0)]  # node, depth, value above it; parents come before their children
    feature, threshold, left, right, mass, value = [], [], [], [], [], []
    for node, depth, above in nodes:
        total = above + node.r_mass * 2.0**depth / rows
        ends = depth == _HEIGHT or node.r_mass < _END_SHARE * rows
        feature.append(-1 if ends else node.feature)
        threshold.append(0.0 if ends else np.nextafter(node.threshold, -np.inf))  # theirs go left below, not at it
        left.append(0 if ends else len(nodes))
        right.append(0 if ends else len(nodes) + 1)
        mass.append(node.r_mass)
        value.append(total)
        if not ends:
            nodes += [(child, depth + 1, total) for child in node.children]
    return Trees(
        np.array(feature, np.int64),
        np.array(threshold, np.float64),
        np.array(left, np.int64),
        np.array(right, np.int64),
        np.array(mass, np.float64),
        np.array(value, np.float64),
        np.zeros(1, np.int64),
    )
