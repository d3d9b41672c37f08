"""The metrics equal the field's reference implementation (PyPI: TSB-AD 1.5, installed without its dependencies)."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_ad.offline import accuracy as metrics


def case(seed: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels with a few runs (some at the ends, some nearly touching) and scores that half know them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, np.int64)
    for start in rng.integers(0, n, rng.integers(1, 8)):
        labels[start : start + rng.integers(1, 40)] = 1
    labels[: 5 * (seed % 3 == 1)] = 1
    labels[n - 5 * (seed % 3 == 2) :] = 1
    scores = rng.random(n) + labels * rng.random()
    if seed % 2:
        scores = np.asarray(np.round(scores, 1), np.float64)  # ties
    return labels, scores


@pytest.mark.parametrize(("n", "window"), [(300, 20), (777, 7), (500, 0), (400, 61)])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_reference(seed: int, n: int, window: int) -> None:
    reference = pytest.importorskip("TSB_AD.evaluation.basic_metrics", reason="pip install --no-deps TSB-AD==1.5")
    labels, scores = case(seed, n)
    roc, pr = reference.generate_curve(labels, scores, window, "opt", 250)[-2:]
    assert metrics.vus(labels, scores, window) == pytest.approx((pr, roc), abs=1e-6)
    assert metrics.vus_pr(labels, scores, window) == metrics.vus(labels, scores, window)[0]
    plain = reference.basic_metricor()
    assert metrics.auc_pr(labels, scores) == pytest.approx(plain.metric_PR(labels, scores), abs=1e-9)
    assert metrics.auc_roc(labels, scores) == pytest.approx(plain.metric_ROC(labels, scores), abs=1e-9)


def test_bounds() -> None:
    labels = np.zeros(1000, np.int64)
    labels[400:450] = 1
    assert metrics.auc_pr(labels, labels.astype(float)) == 1.0
    assert metrics.vus_pr(labels, labels.astype(float), 20) > 0.9
    assert metrics.auc_pr(labels, np.zeros(1000)) == pytest.approx(0.05)
    assert metrics.auc_roc(labels, labels.astype(float)) == 1.0
    assert metrics.auc_roc(labels, np.zeros(1000)) == 0.5
    assert np.isnan(metrics.auc_roc([1, 1], [0.0, 1.0]))


def test_runs() -> None:
    assert metrics.label_runs([1, 1, 0, 0, 1, 0, 1]) == [(0, 1), (4, 4), (6, 6)]


def test_refusals() -> None:
    for labels, scores, message in (
        ([0, 1], [1.0], "one length"),
        ([0, 1], [1.0, np.nan], "finite"),
        ([0, 0], [1.0, 2.0], "at least one labelled"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.vus_pr(labels, scores, 1)
