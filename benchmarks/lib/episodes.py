"""What scores find of known faults, at a budget of false episodes that is set on the clean twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib.fault_kinds import Fault

__all__ = ["Found", "Scored", "count_episodes", "find_faults", "threshold_at"]

Float64 = NDArray[np.float64]

JOIN = 32  # rows over the threshold that are no further apart are one episode
LATE = 32  # a fault may be found so many rows after its end
AFTER = (32, 190)  # rows after its end in which an alarm counts as lingering


@dataclass(frozen=True, slots=True)
class Scored:
    """score: float64 [n], 1 = the method's own threshold; attribution: float64 [n, channel] >= 0."""

    score: Float64
    attribution: Float64


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one fault. delay: rows from its first row to the first alarm; early, late: rows by which the alarm
    begins before the fault and ends after it."""

    fault: Fault
    found: bool
    fresh: bool
    channel_right: bool
    delay: int
    lingers: bool
    late: int


def _episodes(over: NDArray[np.bool_]) -> list[tuple[int, int]]:
    at = np.flatnonzero(over)
    if not len(at):
        return []
    cuts = np.flatnonzero(np.diff(at) > JOIN)
    starts = [int(at[0]), *(int(at[cut + 1]) for cut in cuts)]
    stops = [*(int(at[cut]) + 1 for cut in cuts), int(at[-1]) + 1]
    return list(zip(starts, stops, strict=True))


def count_episodes(scores: Sequence[Float64], threshold: float) -> int:
    return sum(len(_episodes(np.nan_to_num(score) > threshold)) for score in scores)


def threshold_at(clean: Sequence[Float64], rows_per_episode: int, levels: int = 4_000) -> float:
    """The lowest threshold down to which there is never more than one episode in so many clean rows, over all series
    together; of `levels` thresholds at the upper quantiles. (Far below, episodes join and their number falls again.)"""
    budget = sum(map(len, clean)) / rows_per_episode
    every = np.concatenate([np.nan_to_num(score) for score in clean])
    shares = np.geomspace(1 / len(every), 1.0, levels)
    best = float(every.max())
    for threshold in np.quantile(every, 1 - shares):
        if count_episodes(clean, float(threshold)) > budget:
            break
        best = float(threshold)
    return best


def find_faults(scored: Scored, faults: Sequence[Fault], threshold: float) -> list[Found]:
    """One result a fault. fresh: no alarm stood in the 32 rows before it. channel_right: at the highest score within
    the fault the channel with the largest attribution is one of the fault's."""
    score = np.nan_to_num(scored.score)
    over = score > threshold
    out: list[Found] = []
    for fault in faults:
        inside = slice(fault.start, min(fault.stop + LATE, len(score)))
        hits = np.flatnonzero(over[inside])
        found = bool(len(hits))
        fresh = not over[max(fault.start - JOIN, 0) : fault.start].any()
        peak = fault.start + int(np.argmax(score[inside]))
        right = int(np.argmax(scored.attribution[peak])) in fault.channels
        after = over[fault.stop + AFTER[0] : fault.stop + AFTER[1]]
        tail = np.flatnonzero(~over[fault.stop :])
        late = int(tail[0]) if len(tail) else len(score) - fault.stop
        out.append(Found(fault, found, found and fresh, right, int(hits[0]) if found else -1, bool(after.any()), late))
    return out
