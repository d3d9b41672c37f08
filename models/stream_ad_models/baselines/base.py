"""Scorers by squared errors point by point, smoothed and combined as in the default scorer.

Each component's channels are divided by their mean on the history and summed, smoothed by `smoothing_kernel` (forward
only as far as the delay allows), and taken as logs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.ports import Fitted, ScoredSlots, Session, Window
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS, WINDOW_STEPS
from stream_ad_models.scorer.base import WindowScorer
from stream_ad_models.scorer.combine import ScoreCombiner, attribution
from stream_ad_models.scorer.normaliser import Normaliser
from stream_ad_models.scorer.point_error import BACK_STEPS, SMALLEST_MEAN, smoothing_kernel

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["Arrays", "ErrorFunction", "Learned", "PointErrors", "PointwiseScorer", "PointwiseSession", "SeededScorer"]

_LOG_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class PointErrors:
    """squares: squared errors per component, each float64 [n, scored channel], 0 where no reading is; expected value
    and its standard deviation in z-scores, [n, scored channel]."""

    squares: Sequence[Float64]
    expected: Float64
    std: Float64


@dataclass(frozen=True, slots=True)
class Learned:
    """arrays: for `error_function`; held_out: the history's squared errors as in PointErrors."""

    arrays: Arrays
    held_out: Sequence[Float64]


# z-scores of the scored channels float64 [window, channel] (NaN = no reading) and the window's end slot -> errors of
# these rows. One per session, so it may keep running state.
ErrorFunction = Callable[[Float64, int], PointErrors]


class PointwiseSession:
    """One series; `errors` is its error function."""

    def __init__(self, arrays: Arrays, errors: ErrorFunction) -> None:
        self.normaliser = Normaliser.from_arrays(arrays)
        self.combiner = ScoreCombiner.from_arrays(arrays)
        self.means = np.asarray(arrays["pointwise.means"], np.float64)  # [component, scored channel]
        self.errors = errors

    @property
    def channels(self) -> int:
        return len(self.normaliser.centre)


class PointwiseScorer(WindowScorer, ABC):
    """The Scorer port over point by point errors, which subclasses define."""

    revision = "1"  # of what the subclass computes
    lookback_steps = WINDOW_STEPS

    def __init__(self, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(hop_steps, delay_steps, most_delay=WINDOW_STEPS - BACK_STEPS - hop_steps)
        usual = (hop_steps, delay_steps) == (HOP_STEPS, DELAY_STEPS)
        self.version = self.revision if usual else f"{self.revision}-h{hop_steps}-d{delay_steps}"

    @abstractmethod
    def learn(self, z: Float64) -> Learned:
        """z: the history's z-scores float64 [n, scored channel], NaN = no reading."""

    @abstractmethod
    def error_function(self, arrays: Arrays) -> ErrorFunction:
        """Of a new session, over the arrays that `learn` returned and `pointwise.means`."""

    def fit(self, history: Float32) -> Fitted:
        self.check_history(history)
        normaliser = Normaliser.fit(history)
        learned = self.learn(normaliser.apply(history)[:, normaliser.scored].astype(np.float64))
        means = np.stack([each.mean(axis=0) + SMALLEST_MEAN for each in learned.held_out])
        kernel = smoothing_kernel(means.shape[1], self.delay_steps)
        values = []
        for squares, mean in zip(learned.held_out, means, strict=True):
            padded = np.pad((squares / mean).sum(axis=1), (BACK_STEPS, self.delay_steps))
            values.append(_log(np.convolve(padded, kernel[::-1], "valid")))
        combiner = ScoreCombiner.fit(values, [1 / len(values)] * len(values))
        arrays = {**normaliser.arrays(), **combiner.arrays(), "pointwise.means": means, **learned.arrays}
        return Fitted(arrays, combiner.raw(values))

    def open(self, arrays: Arrays) -> PointwiseSession:
        return PointwiseSession(arrays, self.error_function(arrays))

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        return [self._score(self.check_window(*pair, PointwiseSession), pair[1]) for pair in batch]

    def _score(self, session: PointwiseSession, window: Window) -> ScoredSlots:
        normaliser = session.normaliser
        errors = session.errors(normaliser.apply(window.rows)[:, normaliser.scored].astype(np.float64), window.end_slot)
        first = WINDOW_STEPS - 1 - (window.end_slot - window.emit_from)
        rows = np.arange(first, first + max(window.emit_to - window.emit_from, 0))
        near = rows[:, None] + np.arange(-BACK_STEPS, self.delay_steps + 1)
        inside = (near >= 0) & (near < WINDOW_STEPS)
        weights = np.where(inside, smoothing_kernel(session.means.shape[1], self.delay_steps), 0.0)
        near = np.where(inside, near, 0)
        parts = [
            np.einsum("rk,rkc->rc", weights, squares[near] / mean)
            for squares, mean in zip(errors.squares, session.means, strict=True)
        ]
        raw = session.combiner.raw([_log(part.sum(axis=1)) for part in parts])
        shares = attribution(np.sum(parts, axis=0).astype(np.float32), normaliser.scored)
        return ScoredSlots(
            window.emit_from, raw, *normaliser.intervals(errors.expected[rows], errors.std[rows]), shares
        )


class SeededScorer(PointwiseScorer):
    """One whose fit is random."""

    def __init__(self, seed: int = 0, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(hop_steps=hop_steps, delay_steps=delay_steps)
        self.seed = seed


def _log(values: Float64) -> Float64:
    return np.asarray(np.log(values + _LOG_FLOOR), np.float64)
