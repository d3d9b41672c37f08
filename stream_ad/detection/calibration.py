"""A threshold from held-out normal scores and a rate of false alarms.

Peaks over threshold (Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, ch. 4 and 5.3; on streams:
Siffer et al., Anomaly Detection in Streams with Extreme Value Theory, KDD 2017, "SPOT"). An alarm is an episode, so the
excesses are declustered by runs, and each cluster counts by its peak. Within the data the threshold is the level that
the wanted number of clusters exceeds; beyond the data it is a quantile of the generalised Pareto law fitted to the
peaks by L-moments (Hosking & Wallis, Technometrics 1987), its shape bounded between exponential and heavy. The law may
extrapolate only a little beyond the highest held-out score: real anomalies lie there too, and a thousand slots do not
determine a rate of one in a million (ADR 6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError

__all__ = ["MIN_SLOTS", "RUN_STEPS", "Calibration"]

MIN_SLOTS = 10  # fewer held-out slots do not determine a tail
RUN_STEPS = 16  # quiet slots that separate two clusters: the default cooldown of an alert
_PEAKS = (10, 40)  # minimum and maximum number of clusters that the tail is fitted on
_SLOTS_PER_PEAK = 150
_LEVEL_GROWTH = 1.1  # candidate levels lie at geometrically growing ranks
_MAX_SHAPE = 0.6  # of the GPD: at 1 the mean is infinite
_PRIOR_SD = 0.25  # of the shape around 0: few peaks carry little information about it
_SHAPE_VARIANCE = 4 / 3  # times 1 / peaks: asymptotic variance of the estimate at shape 0
_SURPRISE = 0.05  # the threshold leaves no more held-out clusters above it than this chance allows
_MAX_OVER = 4.0  # largest ratio of held-out maximum to threshold
_MAX_BEYOND = 1.1  # largest ratio of threshold to held-out maximum: a rate rarer than the history is a guess
_HIGH_SCORE = 0.8  # upper bound of the normal scores' 90 % quantile (the default level at which an alert ends)
_TINY = 1e-9  # lower bound of the false alarms expected among the held-out slots
_FLOOR = 0.1  # raw threshold if every held-out score is 0, in units of a log-excess


@dataclass(frozen=True, slots=True)
class Calibration:
    """threshold: raw score (> 0) that normal data exceed at the wanted rate of episodes. detail: how it was found."""

    threshold: float
    detail: str

    @classmethod
    def fit(cls, held_out: NDArray[np.float64], step_s: float, false_alarms_per_s: float) -> Calibration:
        """held_out: float64 [m], raw scores >= 0 of consecutive normal slots, step_s apart.

        A smaller rate never gives a lower threshold. DataError: fewer than 10 slots, a score that is negative or not
        finite, a step or rate that is not positive.
        """
        raw = np.asarray(held_out, dtype=np.float64)
        _check(raw, step_s, false_alarms_per_s)
        wanted = max(min(false_alarms_per_s * step_s, 1.0) * len(raw), _TINY)  # clusters expected in the held-out part
        level, peaks, how = _tail_level(raw, wanted)
        peak, high = float(raw.max()), float(np.quantile(raw, 0.9))
        low = max(peak / _MAX_OVER, high / _HIGH_SCORE, _surprising_peak(peaks, wanted))
        threshold = max(min(level, _MAX_BEYOND * peak), low)
        if threshold != level:
            how += f", held to {threshold:.4g} by the held-out scores themselves"
        if threshold <= 0.0:
            threshold, how = _FLOOR, "every held-out score is 0"
        return cls(threshold, f"{len(raw)} held-out slots, {wanted:.3g} false alarms expected among them: {how}")

    def score(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """raw / threshold, of the same shape: 1 = the threshold."""
        return np.asarray(raw, dtype=np.float64) / self.threshold


def _check(raw: NDArray[np.float64], step_s: float, false_alarms_per_s: float) -> None:
    if raw.ndim != 1 or len(raw) < MIN_SLOTS:
        raise DataError(f"calibration: expected at least {MIN_SLOTS} held-out scores, found shape {raw.shape}")
    bad = np.flatnonzero(~(np.isfinite(raw) & (raw >= 0)))
    if len(bad):
        raise DataError(
            f"calibration: expected finite scores >= 0, found {raw[bad[0]]} at slot {bad[0]} ({len(bad)} such slots)"
        )
    for name, number in (("step_s", step_s), ("false_alarms_per_s", false_alarms_per_s)):
        if not (math.isfinite(number) and number > 0):
            raise DataError(f"calibration: expected {name} > 0, found {number}")


def _tail_level(raw: NDArray[np.float64], wanted: float) -> tuple[float, NDArray[np.float64], str]:
    """The level that `wanted` clusters among the m slots exceed on average, the peaks of the fit, and a description."""
    levels, counts = _candidates(raw)
    base = _first_reaching(counts, min(max(len(raw) // _SLOTS_PER_PEAK, _PEAKS[0]), _PEAKS[1]))
    start = float(levels[base])
    peaks = _cluster_peaks(raw, start)
    if len(peaks) == 0:
        return start, peaks, "all held-out scores are equal"
    if wanted >= len(peaks):
        at = _first_reaching(counts, wanted)
        return float(levels[at]), peaks, f"level that {counts[at]} of their clusters exceed"
    scale, shape = _fit_tail(peaks - start)
    ratio = len(peaks) / wanted
    beyond = scale * (math.log(ratio) if shape < 1e-6 else (ratio**shape - 1) / shape)
    how = f"tail of {len(peaks)} clusters over {start:.4g}, scale {scale:.3g}, shape {shape:.2f}"
    return start + beyond, peaks, how


def _candidates(raw: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Levels from the second highest score down to the median, and how many clusters exceed each."""
    ranks, rank = [], 1.0
    while rank <= max(len(raw) // 2, 1):
        ranks.append(int(rank))
        rank = max(rank + 1, rank * _LEVEL_GROWTH)
    levels = np.sort(raw)[::-1][ranks]
    counts = np.array([len(_cluster_starts(raw, float(level))[1]) for level in levels], dtype=np.int64)
    return levels, counts


def _first_reaching(counts: NDArray[np.int64], number: float) -> int:
    """Index of the highest level that at least `number` clusters exceed, else of the one that most clusters exceed."""
    reached = np.flatnonzero(counts >= number)
    return int(reached[0]) if len(reached) else int(np.argmax(counts))


def _cluster_starts(raw: NDArray[np.float64], level: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions over `level`, and which of these begin a cluster: after a quiet run (Coles 2001, 5.3.2)."""
    over = np.flatnonzero(raw > level)
    run = min(RUN_STEPS, max(len(raw) // 50, 1))  # a short part would hold few clusters with a long run
    starts = np.flatnonzero(np.diff(over, prepend=-run - 1) > run) if len(over) else over
    return over, starts


def _cluster_peaks(raw: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Highest score of each cluster over `level`, in time order."""
    over, starts = _cluster_starts(raw, level)
    return np.maximum.reduceat(raw[over], starts) if len(over) else np.empty(0)


def _fit_tail(excess: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shape (>= 0) of the generalised Pareto law of excesses [k], k >= 1.

    L-moments: shape = 2 - l1 / l2, scale = (1 - shape) l1; the shape is shrunk towards 0, the more the fewer the peaks.
    """
    k, mean = len(excess), float(excess.mean())
    if k < 2:
        return mean, 0.0
    half_difference = float(np.sort(excess) @ (2 * np.arange(1, k + 1) - k - 1)) / (k * (k - 1))
    if half_difference <= 0:
        return mean, 0.0
    weight = _PRIOR_SD**2 / (_PRIOR_SD**2 + _SHAPE_VARIANCE / k)
    shape = weight * min(max(2 - mean / half_difference, 0.0), _MAX_SHAPE)
    return (1 - shape) * mean, shape


def _surprising_peak(peaks: NDArray[np.float64], wanted: float) -> float:
    """The n-th highest peak, n the smallest number of clusters that would surprise (Poisson of mean `wanted`), else 0.

    So one held-out anomaly may stay over the threshold, but not more clusters than chance allows.
    """
    fewer, term = 0.0, math.exp(-wanted)  # P(N < n), P(N = n)
    for n, peak in enumerate(np.sort(peaks)[::-1], start=1):
        fewer += term
        term *= wanted / n
        if 1 - fewer <= _SURPRISE:
            return float(peak)
    return 0.0
