"""Trees as plain arrays say what the libraries that grew them say."""

from __future__ import annotations

import numpy as np
import pytest
from river.anomaly import HalfSpaceTrees
from sklearn.ensemble import IsolationForest
from stream_ad_models.baselines.trees import STEPS, HalfSpaceScorer, IsolationForestScorer, Trees, features


def _rows(n: int = 400, width: int = 6, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32).astype(np.float64)
    rows[::50] *= 4
    return rows


def test_isolation_forest_scores_as_scikit_learn() -> None:
    rows, later = _rows(), _rows(seed=1)
    scorer = IsolationForestScorer()
    values, shares = scorer.grow(rows).walk(later, channels=2)
    expected = -IsolationForest(n_estimators=100, max_samples=256, random_state=0).fit(rows).score_samples(later)
    np.testing.assert_allclose(scorer.scores(values), expected, rtol=1e-6)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_half_space_trees_score_as_river() -> None:
    rows, later = _rows(), _rows(seed=1)
    low, high = rows.min(axis=0), rows.max(axis=0)
    margin = (high - low) / 2
    limits = dict(enumerate(zip(low - margin, high + margin, strict=True)))
    theirs = HalfSpaceTrees(n_trees=25, height=8, window_size=len(rows), limits=limits, seed=0)
    for row in rows:
        theirs.learn_one(dict(enumerate(row)))
    expected = [theirs.score_one(dict(enumerate(row))) for row in later]
    values, _ = HalfSpaceScorer().grow(rows).walk(later, channels=2)
    np.testing.assert_allclose(1 - values / (2**9 - 1), expected, rtol=1e-9)


def test_what_is_missing_goes_with_the_many() -> None:
    tree = Trees(
        feature=np.array([0, -1, -1]),
        threshold=np.array([1.0, 0.0, 0.0]),
        left=np.array([1, 0, 0]),
        right=np.array([2, 0, 0]),
        mass=np.array([10.0, 3.0, 7.0]),
        value=np.array([0.0, 5.0, 9.0]),
        roots=np.array([0]),
    )
    values, shares = tree.walk(np.array([[np.nan], [1.0], [1.1]]), channels=1)
    assert values.tolist() == [9.0, 5.0, 9.0]
    assert shares.tolist() == [[1.0]] * 3
    both = Trees.joined([tree, tree])
    assert both.left.tolist() == [1, 0, 0, 4, 3, 3]
    assert both.walk(np.array([[0.0]]), channels=1)[0].tolist() == [5.0]


@pytest.mark.parametrize("n", [5, 16, 60])
def test_features_are_those_of_the_last_rows(n: int) -> None:
    z = np.random.default_rng(2).normal(size=(n, 2))
    z[n // 2 :, 1] = np.nan
    found = features(z)
    for at in range(n):
        for channel in range(2):
            window = z[max(0, at - STEPS + 1) : at + 1, channel]
            window = window[~np.isnan(window)]
            expected = [window.mean(), window.std()] if len(window) >= STEPS // 2 else [np.nan, np.nan]
            np.testing.assert_allclose(found[at, [2 + channel, 4 + channel]], expected, atol=1e-6)
