"""Baselines of random trees, fitted by a library and stored as plain arrays: isolation forest and half-space trees.

A tree's features of a row are each channel's value, and mean and standard deviation of its last 16 rows. The libraries
give no attribution, so the trees are walked here: a row's score is split over the channels of the splits on its path,
each by how much it narrows the row down, divided by its depth. (Carletti et al., "Interpretable anomaly detection with
DIFFI" 2023, give all splits equal weight.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.baselines.base import Arrays, ErrorFunction, Learned, PointErrors, SeededScorer

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

__all__ = ["HalfSpaceScorer", "IsolationForestScorer", "TreeScorer", "Trees", "features"]

STEPS = 16
_CHUNK_ROWS = 1024
_NOISE = 0.05  # added to constant features, in z-scores, so that trees can split on them
_FLOOR = 0.01  # smallest spread of the history's scores
_NORMAL_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Trees:
    """Nodes of all trees in one array each, all [node]; children follow their parent.

    feature: int64, -1 = leaf; threshold: float64, a value <= it goes left; left, right: int64 numbers of nodes; mass:
    float64 rows of the history that passed; value: float64 of a leaf; roots: int64 [tree].
    """

    feature: Int64
    threshold: Float64
    left: Int64
    right: Int64
    mass: Float64
    value: Float64
    roots: Int64

    @classmethod
    def joined(cls, trees: Sequence[Trees]) -> Trees:
        """Concatenated, nodes renumbered."""
        starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])[:-1]
        fields: dict[str, Any] = {name: [getattr(tree, name) for tree in trees] for name in cls.__slots__}
        for name in ("left", "right", "roots"):
            fields[name] = [numbers + start for numbers, start in zip(fields[name], starts, strict=True)]
        joined: dict[str, Any] = {name: np.concatenate(parts) for name, parts in fields.items()}
        return cls(**joined)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {f"trees.{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Trees:
        fields: dict[str, Any] = {name: np.asarray(arrays[f"trees.{name}"]) for name in cls.__slots__}
        return cls(**fields)

    def walk(self, rows: Float64, channels: int) -> tuple[Float64, Float64]:
        """Mean value of the leaves [n], and shares of the channels [n, channel] that sum to 1 (or to 0).

        rows: [n, feature], feature f of channel f % channels; NaN follows the child with the larger mass.
        """
        node = np.tile(self.roots, (len(rows), 1))
        credit = np.zeros(len(rows) * channels)
        line = np.arange(len(rows))[:, None]
        depth = 0
        while (inner := self.feature[node] >= 0).any():
            depth += 1
            feature = np.where(inner, self.feature[node], 0)
            seen = rows[line, feature]
            left, right = self.left[node], self.right[node]
            goes_left = np.where(np.isnan(seen), self.mass[left] >= self.mass[right], seen <= self.threshold[node])
            following = np.where(inner, np.where(goes_left, left, right), node)
            gain = np.log2((self.mass[node] + 1) / (self.mass[following] + 1)) / depth
            credit += np.bincount((line * channels + feature % channels).ravel(), gain.ravel(), len(credit))
            node = following
        shares = credit.reshape(-1, channels)
        total = shares.sum(axis=1, keepdims=True)
        return self.value[node].mean(axis=1), shares / np.where(total > 0, total, 1.0)


class TreeScorer(SeededScorer):
    """Subclasses grow the trees and turn mean values of leaves into scores."""

    @abstractmethod
    def grow(self, rows: Float64) -> Trees:
        """rows: float64 [n, feature] without NaN, no feature constant."""

    @abstractmethod
    def scores(self, values: Float64) -> Float64:
        """Mean values of leaves -> scores [n], higher = more anomalous."""

    def read(self, trees: Trees, z: Float64) -> tuple[Float64, Float64]:
        """Scores [n] and shares [n, channel] of rows."""
        rows = features(z)
        parts = [trees.walk(rows[at : at + _CHUNK_ROWS], z.shape[1]) for at in range(0, len(rows), _CHUNK_ROWS)]
        return self.scores(np.concatenate([each for each, _ in parts])), np.concatenate([each for _, each in parts])

    def learn(self, z: Float64) -> Learned:
        """Held-out scores: each half of the history by the trees of the other half."""
        middle = len(z) // 2
        halves = (z[:middle], z[middle:])
        grown = [self.grow(_filled(features(half))) for half in halves]
        read = [self.read(trees, half) for half, trees in zip(halves, reversed(grown), strict=True)]
        scores, shares = (np.concatenate(each) for each in zip(*read, strict=True))
        centre, spread = float(np.median(scores)), max(float(scores.std()), _FLOOR)
        arrays = {**self.grow(_filled(features(z))).arrays(), "trees.scores": np.array([centre, spread])}
        return Learned(arrays, [_squares(scores, shares, z, centre=centre, spread=spread)])

    def error_function(self, arrays: Arrays) -> ErrorFunction:
        trees = Trees.from_arrays(arrays)
        centre, spread = (float(each) for each in np.asarray(arrays["trees.scores"], np.float64))

        def errors(z: Float64, _: int) -> PointErrors:
            squares = _squares(*self.read(trees, z), z, centre=centre, spread=spread)
            return PointErrors([squares], np.zeros_like(z), np.full_like(z, _NORMAL_INTERVAL))

        return errors


class IsolationForestScorer(TreeScorer):
    """Liu, Ting and Zhou, "Isolation forest" (2008; scikit-learn): score 2^(-E[h] / c(n)), h = steps to isolate a
    row."""

    name = "iforest"
    _trees, _sample = 100, 256

    def grow(self, rows: Float64) -> Trees:
        from sklearn.ensemble import IsolationForest

        sample = min(self._sample, len(rows))
        forest = IsolationForest(n_estimators=self._trees, max_samples=sample, random_state=self.seed).fit(rows)
        return Trees.joined([_isolation_tree(each.tree_, sample) for each in forest.estimators_])

    def scores(self, values: Float64) -> Float64:
        return np.asarray(2.0**-values, np.float64)


def _isolation_tree(fitted: Any, sample: int) -> Trees:
    """value = h / c(sample): depth of the leaf, plus c of the rows that it holds."""
    left, right = np.asarray(fitted.children_left, np.int64), np.asarray(fitted.children_right, np.int64)
    mass = np.asarray(fitted.n_node_samples, np.float64)
    depth = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0):  # parents come before their children
        depth[[left[node], right[node]]] = depth[node] + 1
    value = (depth + _mean_depth(mass)) / _mean_depth(np.array([sample], np.float64))
    feature = np.where(left >= 0, np.asarray(fitted.feature, np.int64), -1)
    children = np.maximum(left, 0), np.maximum(right, 0)
    return Trees(feature, np.asarray(fitted.threshold, np.float64), *children, mass, value, np.zeros(1, np.int64))


def _mean_depth(rows: Float64) -> Float64:
    """c(n), the mean depth of a random binary search tree of n rows (their equation 1)."""
    many = np.maximum(rows, 2.0)
    usual = 2 * (np.log(np.maximum(many - 1, 1)) + np.euler_gamma) - 2 * (many - 1) / many
    return np.asarray(np.select([rows <= 1, rows == 2], [0.0, 1.0], usual), np.float64)


class HalfSpaceScorer(TreeScorer):
    """Tan, Ting and Liu, "Fast anomaly detection for streaming data" (2011; river): the mass of a row's half-space
    times 2^depth. Theirs learn online in windows; here the history is the only window, so that a score depends on the
    look-back alone."""

    name = "hst"
    _trees, _height = 25, 8
    _most_rows = 4096  # of the history, evenly spaced
    _margin = 0.5  # by which the trees extend the history's range, in ranges
    _leaf_share = 0.1  # a node with a smaller share of the rows is a leaf (their sizeLimit)

    def grow(self, rows: Float64) -> Trees:
        from river.anomaly import HalfSpaceTrees

        picked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), self._most_rows)).astype(np.int64))
        low, high = rows.min(axis=0), rows.max(axis=0)
        margin = self._margin * (high - low)
        ranges = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
        limits: dict[Hashable, tuple[float, float]] = dict(enumerate(ranges))
        # Any: river types its methods only in part.
        model: Any = HalfSpaceTrees(
            self._trees, height=self._height, window_size=len(picked), limits=limits, seed=self.seed
        )
        for row in rows[picked].tolist():
            model.learn_one(dict(enumerate(row)))
        return Trees.joined([self._tree(root, len(picked)) for root in model.trees])

    def scores(self, values: Float64) -> Float64:
        return np.asarray(-np.log(values + 1.0), np.float64)

    def _tree(self, root: Any, rows: int) -> Trees:
        """value = sum of mass times 2^depth over the nodes of the path, in shares of the rows."""
        queue = [(root, 0, 0.0)]  # node, depth, value above it; parents come before their children
        nodes: list[tuple[float, ...]] = []  # the fields of Trees, in their order
        for node, depth, above in queue:
            total = above + node.r_mass * 2.0**depth / rows
            if depth == self._height or node.r_mass < self._leaf_share * rows:
                nodes.append((-1, 0.0, 0, 0, node.r_mass, total))
                continue
            threshold = float(np.nextafter(node.threshold, -np.inf))  # theirs go left below it, not at it
            nodes.append((node.feature, threshold, len(queue), len(queue) + 1, node.r_mass, total))
            queue += [(child, depth + 1, total) for child in node.children]
        kinds = (np.int64, np.float64, np.int64, np.int64, np.float64, np.float64)
        columns = zip(Trees.__slots__, zip(*nodes, strict=True), kinds, strict=False)
        fields: dict[str, Any] = {name: np.array(column, kind) for name, column, kind in columns}
        return Trees(**fields, roots=np.zeros(1, np.int64))


def features(z: Float64) -> Float64:
    """Value, and mean and standard deviation of the last 16 rows, [n, 3 * channel]; NaN with fewer than 8 readings."""
    present = ~np.isnan(z)
    values = np.where(present, z, 0.0)

    def summed(each: Float64) -> Float64:
        total = np.cumsum(each, axis=0)
        total[STEPS:] -= total[:-STEPS].copy()
        return np.asarray(total, np.float64)

    count = summed(present.astype(np.float64))
    enough = count >= STEPS // 2
    count = np.maximum(count, 1)
    mean = summed(values) / count
    variance = np.maximum(summed(values**2) / count - mean**2, 0.0)
    return np.concatenate([z, np.where(enough, mean, np.nan), np.where(enough, np.sqrt(variance), np.nan)], axis=1)


def _filled(rows: Float64) -> Float64:
    """Missing values replaced by their feature's mean, a little noise added to constant features."""
    present = ~np.isnan(rows)
    mean = np.where(present, rows, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    filled = np.where(present, rows, mean)
    noise = np.random.default_rng(0).normal(0.0, _NOISE, filled.shape)
    return np.asarray(filled + np.where(np.ptp(filled, axis=0) < _NOISE, noise, 0.0), np.float64)


def _squares(scores: Float64, shares: Float64, z: Float64, *, centre: float, spread: float) -> Float64:
    """Squared excess of the scores over the history's, by channel; 0 for missing readings."""
    excess = np.maximum(scores - centre, 0.0) / spread
    return np.asarray(np.where(np.isnan(z), 0.0, excess[:, None] ** 2 * shares), np.float64)
