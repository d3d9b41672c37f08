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


def nab_score(files: Sequence[NabFile]) -> NabScore:
    """The corpus' score at its best threshold. ValueError without any window."""
    windows = sum(len(file.windows) for file in files)
    if windows == 0:
        raise ValueError("expected at least one labelled window, found none")
    scores, gains, false = (np.concatenate(parts) for parts in zip(*map(_changes, files), strict=True))
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    raw = np.concatenate([[-COST_MISSED * windows], np.cumsum(gains[order]) - COST_MISSED * windows])
    last_of_tie = np.concatenate([[True], np.append(np.diff(scores) != 0, True)[: len(scores)]])
    at = int(np.argmax(np.where(last_of_tie, raw, -np.inf)))
    threshold = float(scores[at - 1]) if at else np.inf
    found = sum(_alarms(file, first, last, threshold) for file in files for first, last in file.windows)
    score = 100 * (raw[at] + COST_MISSED * windows) / (windows * (1 + COST_MISSED))
    return NabScore(float(score), threshold, windows, found, int(false[order][:at].sum()))


def _alarms(file: NabFile, first: int, last: int, threshold: float) -> bool:
    return bool((file.scores[max(first, file.skipped) : last + 1] >= threshold).any())


def _changes(file: NabFile) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    """Rows that count, one each: score, what an alarm adds when higher rows alarm already, and whether it is false."""
    worth = -COST_FALSE * _falseness(file)
    inside = np.zeros(len(file.scores), dtype=bool)
    counts = ~np.isnan(file.scores)
    counts[: file.skipped] = False
    for first, last in file.windows:
        inside[first : last + 1] = True
        worth[first : last + 1] = 0.0
        rows = np.arange(first, last + 1)[counts[first : last + 1]]
        if len(rows):
            rows = rows[np.argsort(-file.scores[rows], kind="stable")]
            earned = _earned(rows, first, last)
            before = np.maximum.accumulate(np.concatenate([[-COST_MISSED], earned]))
            worth[rows] = np.diff(before)
    return file.scores[counts], worth[counts], ~inside[counts]


def _sigmoid(position: Float64) -> Float64:
    return np.asarray(2 / (1 + np.exp(STEEPNESS * position)) - 1, np.float64)


def _earned(rows: NDArray[np.int64], first: int, last: int) -> Float64:
    """1 on the window's first row, falling to nearly 0 on its last."""
    position = (rows - last - 1) / (last - first + 1)
    return np.asarray(_sigmoid(position) / _sigmoid(np.array(-1.0)), np.float64)


def _falseness(file: NabFile) -> Float64:
    """[row] 0 right behind a window to 1 far from any; 1 before the first one."""
    falseness = np.ones(len(file.scores))
    ends = [*(first for first, _ in file.windows), len(file.scores)][1:]
    for (first, last), end in zip(file.windows, ends, strict=True):
        past = np.arange(1, end - last) / max(last - first, 1)
        falseness[last + 1 : end] = np.where(past > FAR_WIDTHS, 1.0, -_sigmoid(np.minimum(past, FAR_WIDTHS)))
    return falseness
