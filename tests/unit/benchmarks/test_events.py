"""Events at false-alarm budgets and point-adjusted F1: equal to walking over every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.accuracy.events import detect_at, point_adjusted_f1
from stream_ad.offline.accuracy import label_runs


def case(seed: int, n: int = 400) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, np.int64)
    for start in rng.integers(0, n, 5):
        labels[start : start + rng.integers(1, 25)] = 1
    kernel = np.ones(1 + seed % 3) / (1 + seed % 3)
    scores = np.convolve(rng.random(n), kernel, "same") + 0.5 * labels * rng.random(n)
    return labels, np.asarray(np.round(scores, 2) if seed % 2 else scores, np.float64)


def walk(budget: float, labels: NDArray[np.int64], scores: NDArray[np.float64], window: int) -> tuple[int, list[int]]:
    """Lowers the threshold level by level and stops before there are too many episodes."""
    runs = label_runs(labels)
    normal = [
        not any(first - window // 2 <= i <= last + window // 2 for first, last in runs) for i in range(len(labels))
    ]
    delays: list[int] = []
    missed = len(runs)
    for level in sorted(set(scores.tolist()), reverse=True):
        alarms = scores >= level
        if len(label_runs(alarms & np.array(normal))) > budget * sum(normal) / 10_000:
            break
        delays = [int(np.flatnonzero(alarms[a : b + 1])[0]) for a, b in runs if alarms[a : b + 1].any()]
        missed = len(runs) - len(delays)
    return missed, delays


@pytest.mark.parametrize("budget", [0, 30, 100, 300, 2000])
@pytest.mark.parametrize("seed", range(6))
def test_events_equal_a_walk_over_thresholds(seed: int, budget: float) -> None:
    labels, scores = case(seed)
    missed, delays = walk(budget, labels, scores, 10)
    found = detect_at(budget, labels, scores, 10)
    assert (found.events, found.missed) == (len(label_runs(labels)), missed)
    assert found.recall == pytest.approx(1 - missed / found.events)
    assert found.delay_rows == (np.median(delays) if delays else None)


def test_the_edge_of_an_event_is_no_false_alarm_and_no_hit() -> None:
    labels, scores = np.zeros(10_000, np.int64), np.zeros(10_000)
    labels[5000:5010] = 1
    scores[5012] = 3.0
    scores[5004] = 2.0
    scores[1000] = 1.0
    assert detect_at(0.5, labels, scores, 10).delay_rows == 4.0
    assert detect_at(0.5, labels, scores, 2).missed == 1
    assert detect_at(1.5, labels, scores, 2).recall == 1.0


def test_an_episode_counts_once_however_long() -> None:
    labels, scores = np.zeros(10_000, np.int64), np.zeros(10_000)
    labels[100] = 1
    scores[2000:3000], scores[100] = 2.0, 1.0
    assert detect_at(2, labels, scores, 0).recall == 1.0
    assert detect_at(0.9, labels, scores, 0).recall == 0.0


def test_a_score_that_says_nothing_finds_nothing() -> None:
    labels = np.zeros(5000, np.int64)
    labels[[7, 3000]] = 1
    assert detect_at(1, labels, np.ones(5000), 10).missed == 2


@pytest.mark.parametrize("seed", range(6))
def test_point_adjusted_f1_equals_every_threshold(seed: int) -> None:
    labels, scores = case(seed)
    best = 0.0
    for level in set(scores.tolist()):
        predicted = scores >= level
        for first, last in label_runs(labels):
            predicted[first : last + 1] = predicted[first : last + 1].any()
        best = max(best, 2 * (predicted & (labels == 1)).sum() / (predicted.sum() + labels.sum()))
    assert point_adjusted_f1(labels, scores) == pytest.approx(best)


def test_random_scores_do_well_when_points_are_adjusted() -> None:
    """Why it is never reported alone."""
    labels = np.zeros(10_000, np.int64)
    for start in range(500, 10_000, 2000):
        labels[start : start + 300] = 1
    assert point_adjusted_f1(labels, np.random.default_rng(0).random(10_000)) > 0.85
