"""Baselines of random trees: fitted by a library, kept as plain arrays, walked here.

What a tree sees of a row is each channel's value, and mean and standard deviation of its last 16 rows. A row's score
splits by channel by the splits on its way down: each counts by how much it narrows the row down, the first ones most.
(Carletti et al., "Interpretable anomaly detection with DIFFI" 2023, weigh splits alike.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.baselines.base import Arrays, Learned, PointErrors, PointwiseScorer, PointwiseSession

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

__all__ = ["TreeScorer", "Trees", "features"]

STEPS = 16
_CHUNK_ROWS = 1024
_NOISE = 0.05  # given to features that never moved, in z-scores, or no split would ever look at them
_FLOOR = 0.01  # smallest spread of the history's scores
_NORMAL_BAND = 1.0


@dataclass(frozen=True, slots=True)
class Trees:
    """Nodes of all trees in one row, all [node]; children follow their parent.

    feature: int64, -1 = the way ends here; threshold: float64, a value <= it goes left; left, right: int64 numbers of
    nodes; mass: float64 rows of the history that came by; value: float64 of a way that ends here; roots: int64 [tree].
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
        """One after the other, nodes numbered anew."""
        starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])[:-1]
        moved = {
            name: np.concatenate([getattr(tree, name) + at for tree, at in zip(trees, starts, strict=True)])
            for name in ("left", "right", "roots")
        }
        same = {
            name: np.concatenate([getattr(tree, name) for tree in trees])
            for name in ("feature", "threshold", "mass", "value")
        }
        return cls(**same, **moved)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {f"trees.{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Trees:
        return cls(**{name: np.asarray(arrays[f"trees.{name}"]) for name in cls.__slots__})

    def walk(self, rows: Float64, channels: int) -> tuple[Float64, Float64]:
        """Mean value at the ways' ends [n], and shares of the channels [n, channel] that sum to 1 (or to 0).

        rows: [n, feature], feature f of channel f % channels; NaN goes where most of the history went.
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


class TreeSession(PointwiseSession):
    def __init__(self, arrays: Arrays, scorer: TreeScorer) -> None:
        super().__init__(arrays)
        self._scorer = scorer
        self._trees = Trees.from_arrays(arrays)
        self._centre, self._spread = (float(each) for each in np.asarray(arrays["trees.scores"], np.float64))

    def errors(self, z: Float64, end_slot: int) -> PointErrors:
        del end_slot  # nothing runs from window to window
        scores, shares = self._scorer.read(self._trees, z)
        squares = _squares(scores, shares, z, centre=self._centre, spread=self._spread)
        return PointErrors([squares], np.zeros_like(z), np.full_like(z, _NORMAL_BAND))


class TreeScorer(PointwiseScorer):
    """Subclasses grow the trees and say what a mean value means."""

    @abstractmethod
    def grow(self, rows: Float64) -> Trees:
        """rows: float64 [n, feature] without NaN, no feature constant."""

    @abstractmethod
    def scores(self, values: Float64) -> Float64:
        """Mean values of ways -> scores [n], higher = more anomalous."""

    def read(self, trees: Trees, z: Float64) -> tuple[Float64, Float64]:
        """Scores [n] and shares [n, channel] of rows."""
        rows = features(z)
        parts = [trees.walk(rows[at : at + _CHUNK_ROWS], z.shape[1]) for at in range(0, len(rows), _CHUNK_ROWS)]
        return self.scores(np.concatenate([each for each, _ in parts])), np.concatenate([each for _, each in parts])

    def learn(self, z: Float64) -> Learned:
        """Held-out scores: each half of the history read by the trees of the other half."""
        middle = len(z) // 2
        halves = (z[:middle], z[middle:])
        grown = [self.grow(_filled(features(half))) for half in halves]
        read = [self.read(trees, half) for half, trees in zip(halves, reversed(grown), strict=True)]
        scores, shares = (np.concatenate(each) for each in zip(*read, strict=True))
        centre, spread = float(np.median(scores)), max(float(scores.std()), _FLOOR)
        arrays = {**self.grow(_filled(features(z))).arrays(), "trees.scores": np.array([centre, spread])}
        return Learned(arrays, [_squares(scores, shares, z, centre=centre, spread=spread)])

    def open(self, arrays: Arrays) -> TreeSession:
        return TreeSession(arrays, self)


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
    """What is missing gets its feature's mean, what never moved a little noise."""
    present = ~np.isnan(rows)
    mean = np.where(present, rows, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    filled = np.where(present, rows, mean)
    noise = np.random.default_rng(0).normal(0.0, _NOISE, filled.shape)
    return np.asarray(filled + np.where(np.ptp(filled, axis=0) < _NOISE, noise, 0.0), np.float64)


def _squares(scores: Float64, shares: Float64, z: Float64, *, centre: float, spread: float) -> Float64:
    """How far scores are above the usual, squared, by channel; 0 where there is no reading."""
    excess = np.maximum(scores - centre, 0.0) / spread
    return np.asarray(np.where(np.isnan(z), 0.0, excess[:, None] ** 2 * shares), np.float64)
