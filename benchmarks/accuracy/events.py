"""Accuracy by event: what is found and how soon at a stated rate of false alarms; and point-adjusted F1.

An event is a run of labelled rows. Rows within `window // 2` of one are neither normal nor part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream_ad.offline.accuracy import checked, label_runs

__all__ = ["Detection", "detect_at", "point_adjusted_f1"]

PER_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Detection:
    """Events found at one budget. above: scores over it alarm; delay_rows: median of events found, None without one."""

    budget: float
    above: float
    events: int
    missed: int
    delay_rows: float | None

    @property
    def recall(self) -> float:
        return 1.0 - self.missed / self.events


def detect_at(budget: float, labels: ArrayLike, scores: ArrayLike, window: int) -> Detection:
    """Events found, and rows from their start to the first alarm inside them, at `budget` false-alarm episodes.

    budget: episodes per 10,000 normal rows, not rounded: a series of 5,000 rows has none at a budget of 1. Episodes are
    runs of alarms on normal rows. The threshold is lowered until the budget would first be exceeded, no further: lower
    still, episodes merge and their number falls again.
    """
    truth, score = checked(labels, scores)
    runs = label_runs(truth)
    above = _threshold(budget, ~_near(runs, window // 2, len(truth)), score)
    alarms = score > above
    delays = [int(np.argmax(found)) for first, last in runs if (found := alarms[first : last + 1]).any()]
    median = float(np.median(delays)) if delays else None
    return Detection(budget, above, len(runs), len(runs) - len(delays), median)


def _near(runs: list[tuple[int, int]], reach: int, n: int) -> NDArray[np.bool_]:
    near = np.zeros(n, dtype=bool)
    for first, last in runs:
        near[max(first - reach, 0) : last + reach + 1] = True
    return near


def _threshold(budget: float, normal: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """The highest score at which alarms (rows at or over it) make too many episodes; -inf when none does."""
    levels = np.unique(score[normal])[::-1]
    # Runs of alarms = rows that alarm, less neighbours that both do.
    joined = np.minimum(score[:-1], score[1:])[normal[:-1] & normal[1:]]
    episodes = _at_or_over(levels, score[normal]) - _at_or_over(levels, joined)
    too_many = np.flatnonzero(episodes > budget * normal.sum() / PER_ROWS)
    return float(levels[too_many[0]]) if len(too_many) else -np.inf


def _at_or_over(levels: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    return len(values) - np.searchsorted(np.sort(values), levels, side="left")


def point_adjusted_f1(labels: ArrayLike, scores: ArrayLike) -> float:
    """Best F1 over thresholds when one alarm inside an event makes all its rows hits.

    Random scores do well by it (Kim et al., "Towards a rigorous evaluation of time-series anomaly detection", AAAI
    2022): never reported without that of a random scorer.
    """
    truth, score = checked(labels, scores)
    runs = label_runs(truth)
    peaks = np.array([score[first : last + 1].max() for first, last in runs])
    rows = np.array([last + 1 - first for first, last in runs])
    # Between two events' peaks a lower threshold adds false positives alone.
    order = np.argsort(-peaks, kind="stable")
    hits = np.cumsum(rows[order])
    last_of_tie = np.append(np.diff(peaks[order]) != 0, True)
    false = _at_or_over(peaks[order], score[truth == 0])
    f1 = 2 * hits / (hits + false + rows.sum())
    return float(f1[last_of_tie].max())
