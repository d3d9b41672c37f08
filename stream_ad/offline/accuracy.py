"""Threshold-free accuracy of anomaly scores: volumes under the range-aware PR and ROC surfaces, and plain areas.

VUS: Paparrizos et al., "Volume Under the Surface", PVLDB 15(11), 2022, section 4. Labels get a soft edge of width
`window // 2`; precision, recall and false-positive rate are taken at quantiles of the score for every width from 0 to
the given one, and the areas are averaged. Equal to the reference implementation (TSB-AD) to
1e-6, see tests/unit/offline/test_accuracy.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

__all__ = ["auc_pr", "auc_roc", "checked", "label_runs", "vus", "vus_pr"]

THRESHOLDS = 250


def label_runs(labels: ArrayLike) -> list[tuple[int, int]]:
    """Runs of ones as (first, last), both inclusive."""
    padded = np.concatenate([[0], np.asarray(labels, dtype=np.int8), [0]])
    edges = np.diff(padded)
    return list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))


def auc_pr(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision; tied scores share one threshold. labels: 0/1 [n]; scores: [n], finite."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*checked(labels, scores)))


def auc_roc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Share of pairs of a labelled and a normal row that the score orders correctly; ties count half. NaN without
    a normal row. labels: 0/1 [n]; scores: [n], finite."""
    from sklearn.metrics import roc_auc_score

    truth, score = checked(labels, scores)
    return float("nan") if truth.all() else float(roc_auc_score(truth, score))


def vus_pr(labels: ArrayLike, scores: ArrayLike, window: int, thresholds: int = THRESHOLDS) -> float:
    """Volume under the PR surface; arguments as of `vus`."""
    return vus(labels, scores, window, thresholds)[0]


def vus(labels: ArrayLike, scores: ArrayLike, window: int, thresholds: int = THRESHOLDS) -> tuple[float, float]:
    """Volumes under the PR and the ROC surface.

    labels: 0/1 [n] with at least one 1; scores: [n], finite; window: widest edge in steps.
    """
    truth, score = checked(labels, scores)
    runs = label_runs(truth)
    levels = -np.sort(-score)[np.linspace(0, len(score) - 1, thresholds).astype(int)]
    # A row is predicted from the first threshold that it reaches on.
    first_level = np.searchsorted(-levels, -score, side="left")
    predicted = np.cumsum(np.bincount(first_level, minlength=thresholds + 1)[:thresholds]).astype(np.float64)
    core = _hits(first_level[truth == 1], None, thresholds)
    areas = [
        _areas(truth, runs, width, first_level=first_level, core=core, predicted=predicted)
        for width in range(window + 1)
    ]
    pr, roc = np.mean(areas, axis=0).tolist()
    return pr, roc


def _areas(
    truth: Int64, runs: list[tuple[int, int]], width: int, *, first_level: Int64, core: Float64, predicted: Float64
) -> tuple[float, float]:
    """Areas under the PR and the ROC curve for one edge width; every array but the rows' is [thresholds]."""
    thresholds = len(predicted)
    rows, weights = _edge(truth, runs, width)
    edge = _hits(first_level[rows], weights, thresholds)
    true_positives = core + edge
    positives = (2 * truth.sum() + edge) / 2
    groups = _merged(runs, width // 2, len(truth))
    reached = np.array([first_level[first : last + 1].min() for first, last in groups])
    touched = np.cumsum(np.bincount(reached, minlength=thresholds + 1)[:thresholds]) / len(groups)
    hit_rate = np.concatenate([[0.0], np.minimum(true_positives / positives, 1.0) * touched])
    alarm_rate = np.concatenate([[0.0], (predicted - true_positives) / (len(truth) - positives), [1.0]])
    pr = np.dot(np.diff(hit_rate), true_positives / predicted)
    return float(pr), float(np.trapezoid(np.append(hit_rate, 1.0), alarm_rate))


def _edge(truth: Int64, runs: list[tuple[int, int]], width: int) -> tuple[Int64, Float64]:
    """Rows outside the runs that the soft edge reaches, and their labels in (0, 1]."""
    reach, n = width // 2, len(truth)
    if reach == 0:
        return np.empty(0, dtype=np.int64), np.empty(0)
    soft = np.zeros(n)
    fall = np.sqrt(1.0 - np.arange(1, reach + 1) / width)
    for first, last in runs:
        after = min(reach, n - 1 - last)
        soft[last + 1 : last + 1 + after] += fall[:after]
        before = min(reach, first)
        soft[first - before : first] += fall[:before][::-1]
    rows = np.flatnonzero((soft > 0) & (truth == 0))
    return rows, np.minimum(soft[rows], 1.0)


def _merged(runs: list[tuple[int, int]], reach: int, n: int) -> list[tuple[int, int]]:
    """Runs widened by `reach` on both sides, joined where they meet."""
    groups: list[tuple[int, int]] = []
    for first, last in runs:
        if groups and groups[-1][1] >= first - reach:
            groups[-1] = (groups[-1][0], last + reach)
        else:
            groups.append((max(first - reach, 0), last + reach))
    groups[-1] = (groups[-1][0], min(groups[-1][1], n - 1))
    return groups


def _hits(first_level: Int64, weights: Float64 | None, thresholds: int) -> Float64:
    """Weight predicted at each threshold."""
    counts = np.bincount(first_level, weights=weights, minlength=thresholds + 1)[:thresholds]
    return np.cumsum(counts).astype(np.float64)


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Int64, Float64]:
    """Both as arrays of one length; ValueError when a score is not finite or no row is labelled."""
    truth, score = np.asarray(labels).astype(np.int64), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(f"expected labels and scores of one length, found {truth.shape} and {score.shape}")
    if not np.isfinite(score).all():
        raise ValueError(f"expected finite scores, found {int((~np.isfinite(score)).sum())} that are not")
    if not truth.any():
        raise ValueError("expected at least one labelled row, found none")
    return truth, score
