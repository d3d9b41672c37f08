"""Scorers without a memory or a network: squared errors point by point, smoothed, under the same head.

Each map's channels are divided by their mean on the history and summed, smoothed by exp(-|t| / w) with
w = max(2, 24 / K^(1/3)) steps for K channels, and taken as logs; only what the delay lets in is smoothed over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError, DataError
from stream_ad.ports import Fitted, ScoredSlots, Session, Window
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS, WINDOW_STEPS
from stream_ad_models.scorer.combine import ScoreCombiner, attribution
from stream_ad_models.scorer.normaliser import Normaliser

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["Learned", "PointErrors", "PointwiseScorer", "PointwiseSession"]

_BACK_STEPS = 64  # the kernel's reach into the past
_SMALLEST = 0.01
_LOG_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class PointErrors:
    """maps: squared errors, each float64 [n, scored channel], 0 where there is no reading; expected and its standard
    deviation in z-scores, likewise."""

    maps: Sequence[Float64]
    expected: Float64
    std: Float64


@dataclass(frozen=True, slots=True)
class Learned:
    """`arrays` for the session; `held_out` maps of the history as in PointErrors."""

    arrays: Mapping[str, NDArray[np.generic]]
    held_out: Sequence[Float64]


class PointwiseSession(ABC):
    """One series: errors of the rows of a window; may keep running state."""

    def __init__(self, arrays: Arrays) -> None:
        self.normaliser = Normaliser.from_arrays(arrays)
        self.combiner = ScoreCombiner.from_arrays(arrays)
        self.means = np.asarray(arrays["pointwise.means"], np.float64)  # [map, scored channel]

    @property
    def channels(self) -> int:
        return len(self.normaliser.centre)

    @abstractmethod
    def errors(self, z: Float64, end_slot: int) -> PointErrors:
        """z: z-scores of the scored channels float64 [window, channel], NaN = no reading."""


class PointwiseScorer(ABC):
    """The Scorer port over point by point errors; subclasses say what the errors are."""

    name: str
    revision: str  # of what the subclass computes

    def __init__(self, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        most = WINDOW_STEPS - _BACK_STEPS - hop_steps
        if delay_steps % hop_steps or not 0 <= delay_steps <= most:
            raise ConfigError(f"delay_steps: expected a multiple of {hop_steps} from 0 to {most}, found {delay_steps}")
        self._hop, self._delay = hop_steps, delay_steps

    @property
    def version(self) -> str:
        usual = (self._hop, self._delay) == (HOP_STEPS, DELAY_STEPS)
        return self.revision if usual else f"{self.revision}-h{self._hop}-d{self._delay}"

    @property
    def window_steps(self) -> int:
        return WINDOW_STEPS

    @property
    def hop_steps(self) -> int:
        return self._hop

    @property
    def delay_steps(self) -> int:
        return self._delay

    @property
    def lookback_steps(self) -> int:
        return WINDOW_STEPS

    @abstractmethod
    def learn(self, z: Float64) -> Learned:
        """z: the history's z-scores float64 [n, scored channel], NaN = no reading."""

    @abstractmethod
    def open(self, arrays: Arrays) -> PointwiseSession: ...

    def fit(self, history: Float32) -> Fitted:
        if history.ndim != 2 or len(history) < WINDOW_STEPS:
            raise DataError(f"history: expected at least {WINDOW_STEPS} rows, found shape {list(history.shape)}")
        normaliser = Normaliser.fit(history)
        learned = self.learn(normaliser.apply(history)[:, normaliser.scored].astype(np.float64))
        means = np.stack([each.mean(axis=0) + _SMALLEST for each in learned.held_out])
        kernel = self._kernel(means.shape[1])
        values = []
        for squares, mean in zip(learned.held_out, means, strict=True):
            padded = np.pad((squares / mean).sum(axis=1), (_BACK_STEPS, self._delay))
            values.append(_log(np.convolve(padded, kernel[::-1], "valid")))
        combiner = ScoreCombiner.fit(values, [1 / len(values)] * len(values))
        arrays = {**normaliser.arrays(), **combiner.arrays(), "pointwise.means": means, **learned.arrays}
        return Fitted(arrays, combiner.raw(values))

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        return [self._score(session, window) for session, window in batch]

    def _score(self, session: Session, window: Window) -> ScoredSlots:
        if not isinstance(session, PointwiseSession):
            raise TypeError(f"session: expected one that {type(self).__name__}.open returned, found {type(session)}")
        expected = (WINDOW_STEPS, session.channels)
        if window.rows.shape != expected:
            raise DataError(f"window: expected shape {list(expected)}, found {list(window.rows.shape)}")
        normaliser = session.normaliser
        errors = session.errors(normaliser.apply(window.rows)[:, normaliser.scored].astype(np.float64), window.end_slot)
        kernel = self._kernel(session.means.shape[1])
        first = WINDOW_STEPS - 1 - (window.end_slot - window.emit_from)
        rows = np.arange(first, first + max(window.emit_to - window.emit_from, 0))
        near = rows[:, None] + np.arange(-_BACK_STEPS, self._delay + 1)
        inside = (near >= 0) & (near < WINDOW_STEPS)
        weights = np.where(inside, kernel, 0.0)
        near = np.where(inside, near, 0)
        parts = [
            np.einsum("rk,rkc->rc", weights, squares[near] / mean)
            for squares, mean in zip(errors.maps, session.means, strict=True)
        ]
        raw = session.combiner.raw([_log(part.sum(axis=1)) for part in parts])
        return _slots(session.normaliser, window.emit_from, raw, np.sum(parts, axis=0), errors=errors, rows=rows)

    def _kernel(self, channels: int) -> Float64:
        width = max(2.0, 24.0 / channels ** (1 / 3))
        kernel = np.exp(-np.abs(np.arange(-_BACK_STEPS, self._delay + 1)) / width)
        return np.asarray(kernel / kernel.sum(), np.float64)


def _slots(
    normaliser: Normaliser,
    first_slot: int,
    raw: Float64,
    parts: Float64,
    *,
    errors: PointErrors,
    rows: NDArray[np.int64],
) -> ScoredSlots:
    moving = normaliser.scored & ~normaliser.constant
    inner = ~normaliser.constant[normaliser.scored]
    shape = (len(raw), len(normaliser.scored))
    expected, lower, upper = (
        np.broadcast_to(each, shape).astype(np.float32) for each in (normaliser.centre, normaliser.low, normaliser.high)
    )
    mean, half = errors.expected[rows][:, inner], 1.645 * errors.std[rows][:, inner]
    expected[:, moving] = normaliser.restore(mean, moving)
    lower[:, moving] = normaliser.restore(mean - half, moving)
    upper[:, moving] = normaliser.restore(mean + half, moving)
    shares = attribution(parts.astype(np.float32), normaliser.scored)
    return ScoredSlots(first_slot, raw, expected, lower, upper, shares)


def _log(values: Float64) -> Float64:
    return np.asarray(np.log(values + _LOG_FLOOR), np.float64)
