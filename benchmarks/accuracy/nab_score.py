"""The Numenta Anomaly Benchmark's own score, standard profile.

Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms" (ICMLA 2015), section III: the first alarm inside a
labelled window earns up to 1, the sooner the more; a window without one costs 1; an alarm outside costs up to .11, the
less the closer it follows a window. One threshold for all files, the one that scores best. 0 = no alarm at all, 100 =
an alarm on the first row of every window and no other. Rows of a file's beginning (`probation_rows`) do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

__all__ = ["NabFile", "NabScore", "nab_score", "probation_rows"]

COST_FALSE = 0.11
COST_MISSED = 1.0
PROBATION_SHARE = 0.15
PROBATION_MOST_ROWS = 750
STEEPNESS = 5.0
FAR_WIDTHS = 3.0  # behind a window, in its widths: from there on a false alarm costs in full


@dataclass(frozen=True, slots=True)
class NabFile:
    """One file. scores: float64 [row], NaN = never an alarm; windows: (first, last) rows, in order, apart.

    skipped: rows at the beginning that do not count.
    """

    scores: Float64
    windows: Sequence[tuple[int, int]]
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class NabScore:
    """score: 0 = null, 100 = perfect. threshold: rows at or over it alarm; inf = best not to alarm at all."""

    score: float
    threshold: float
    windows: int
    found: int
    false_alarms: int


def probation_rows(rows: int) -> int:
    return min(int(PROBATION_SHARE * rows), PROBATION_MOST_ROWS)


def nab_score(files: Sequence[NabFile], quiet_rows: int = 0) -> NabScore:
    """The corpus' score at its best threshold. ValueError without any window.

    quiet_rows: 0 as NAB has it, every row at or over the threshold is a separate alarm; else an alarm counts once,
    by the first row after that many below the threshold.
    """
    windows = sum(len(file.windows) for file in files)
    if windows == 0:
        raise ValueError("expected at least one labelled window, found none")
    alarms = [_Alarms.of(file, quiet_rows) for file in files]
    # Only there can a lower threshold score better: a window's row alarms, or a row no longer does.
    inside = [each.of_window(*window).top for each, file in zip(alarms, files, strict=True) for window in file.windows]
    worth = np.unique(np.concatenate([*inside, *(each.under for each in alarms)]))[::-1]
    levels = np.concatenate([[np.inf], worth[np.isfinite(worth)]])
    cost = sum((each.cost(levels, file) for each, file in zip(alarms, files, strict=True)), np.zeros(len(levels)))
    steps = [_steps(each, *window) for each, file in zip(alarms, files, strict=True) for window in file.windows]
    gained = sum((_at(levels, *step) for step in steps), np.zeros(len(levels)))
    best = int(np.argmax(gained - cost))  # of equal ones the highest threshold
    score = 100 * (gained[best] - cost[best]) / (windows * (1 + COST_MISSED))
    found = sum(bool(_at(levels[best : best + 1], *step)[0] > 0) for step in steps)
    false = sum(each.false(float(levels[best]), file) for each, file in zip(alarms, files, strict=True))
    return NabScore(float(score), float(levels[best]), windows, found, false)


@dataclass(frozen=True, slots=True)
class _Alarms:
    """Rows that count, [row] each: row `rows` of the file alarms at thresholds t with under < t <= top."""

    rows: NDArray[np.int64]
    top: Float64
    under: Float64

    @classmethod
    def of(cls, file: NabFile, quiet_rows: int) -> _Alarms:
        counts = ~np.isnan(file.scores)
        counts[: file.skipped] = False
        scores = np.where(counts, file.scores, -np.inf)
        under = np.full(len(scores), -np.inf)
        if quiet_rows:
            padded = np.concatenate([np.full(quiet_rows, -np.inf), scores[:-1]])
            under = sliding_window_view(padded, quiet_rows).max(axis=1)
        rows = np.flatnonzero(counts & (under < scores))
        return cls(rows, scores[rows], under[rows])

    def of_window(self, first: int, last: int) -> _Alarms:
        part = slice(*np.searchsorted(self.rows, [first, last + 1]))
        return _Alarms(self.rows[part], self.top[part], self.under[part])

    def cost(self, levels: Float64, file: NabFile) -> Float64:
        """[level] of false alarms; levels fall."""
        each = COST_FALSE * _falseness(file)[self.rows]
        return _weight_from(self.top, each, levels) - _weight_from(self.under, each, levels)

    def false(self, threshold: float, file: NabFile) -> int:
        alarms = (self.under < threshold) & (threshold <= self.top)
        return int((alarms & (_falseness(file)[self.rows] > 0)).sum())


def _weight_from(values: Float64, weights: Float64, levels: Float64) -> Float64:
    """[level] sum of the weights of values at or over the level."""
    order = np.argsort(values, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(sums[-1] - sums[np.searchsorted(values[order], levels, side="left")], np.float64)


def _steps(alarms: _Alarms, first: int, last: int) -> tuple[Float64, Float64]:
    """What a window adds to the null detector's score: thresholds, rising, each up to which a gain holds; the gains."""
    mine = alarms.of_window(first, last)
    levels = np.unique(np.concatenate([mine.top, mine.under, [-np.inf]]))
    alarm = (mine.under[:, None] < levels) & (levels <= mine.top[:, None])  # [row, level]
    found = alarm.any(axis=0)
    gains = np.zeros(len(levels))
    if len(mine.rows):
        gains[found] = COST_MISSED + _earned(mine.rows[alarm.argmax(axis=0)[found]], first, last)
    return levels, gains


def _at(levels: Float64, thresholds: Float64, gains: Float64) -> Float64:
    at = np.searchsorted(thresholds, levels, side="left")
    return np.asarray(np.append(gains, 0.0)[at], np.float64)


def _sigmoid(position: Float64) -> Float64:
    return np.asarray(2 / (1 + np.exp(STEEPNESS * position)) - 1, np.float64)


def _earned(rows: NDArray[np.int64], first: int, last: int) -> Float64:
    """1 on the window's first row, falling to nearly 0 on its last."""
    position = (rows - last - 1) / (last - first + 1)
    return np.asarray(_sigmoid(position) / _sigmoid(np.array(-1.0)), np.float64)


def _falseness(file: NabFile) -> Float64:
    """[row] 0 inside windows, nearly 0 right behind one to 1 far from any; 1 before the first one."""
    falseness = np.ones(len(file.scores))
    for first, last in file.windows:
        falseness[first : last + 1] = 0.0
    ends = [*(first for first, _ in file.windows), len(file.scores)][1:]
    for (first, last), end in zip(file.windows, ends, strict=True):
        past = np.arange(1, end - last) / max(last - first, 1)
        falseness[last + 1 : end] = np.where(past > FAR_WIDTHS, 1.0, -_sigmoid(np.minimum(past, FAR_WIDTHS)))
    return falseness
