"""Scorer over the closed-form imputer: the residual of each channel given the other channels and its past.

Two conditionals per channel (ties.py): A knows all channels over the last 8 steps except the reading itself; B knows
the other channels of the same step only, so a stuck, shifted or oscillating channel contradicts it for as long as the
fault lasts. Residuals are cross-fitted over 4 contiguous folds, divided by a slow scale after subtracting a slow level,
and read as level and energy under exponential means of several lengths, together with the channel's movement (stuck,
noisy, unchanged). Each map becomes a log tail probability of held-out rows (tails.py). A channel's score is its largest
map, a slot's score its largest channel: one channel of 52 is not averaged away. Maps with a memory count only until the
readings after the slot, as far as the delay includes them, are normal again: the score ends with the fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError
from stream_ad.ports import Fitted, ScoredSlots, Session, Window
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS, WINDOW_STEPS
from stream_ad_models.scorer.base import WindowScorer
from stream_ad_models.scorer.combine import attribution
from stream_ad_models.scorer.normaliser import Normaliser
from stream_ad_models.scorer.residual_maps import (
    ADAPT_STEPS,
    CENTRED,
    GATE_STEPS,
    LEAST_SCALES,
    MAPS,
    MOVES,
    RunningMaps,
    ahead_maps,
    combined,
    steps_of,
)
from stream_ad_models.scorer.tails import Tails
from stream_ad_models.scorer.ties import FOLDS, Ties, cross_fitted

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["GaussianScorer", "GaussianSession"]

_CLIP = 20.0  # z-scores
_HISTORY_STEPS = 12_000
_FORGET_STEPS = 1_200  # until the slowest mean has forgotten where it started, also in a gap
_SHORT_STEPS = 1_000  # below it folds are too short for a median of their rises: the largest counts
_RAISED = 0.99
_SHARPNESS = 4  # attribution ~ score ** this


class GaussianSession:
    """One series: its ties, its tails, and the rows that slots still to be emitted need."""

    def __init__(self, arrays: Arrays, hop: int, delay: int) -> None:
        self.normaliser = Normaliser.from_arrays(arrays)
        self.ties = Ties.from_arrays(arrays)
        self.tails = Tails.from_arrays(arrays, "tails")
        self.ahead_tails = Tails.from_arrays(arrays, "ahead")
        self.movement = np.asarray(arrays["gaussian.movement"], np.float64)
        self._hop, self._kept = hop, delay + 2 * hop
        self.next_end: int | None = None
        self._clear()

    @property
    def channels(self) -> int:
        return len(self.normaliser.centre)

    def _clear(self) -> None:
        scored = int(self.normaliser.scored.sum())
        self._running = RunningMaps(scored, self.movement)
        self.scores = np.empty((0, MAPS, scored), np.float32)
        self.adapted = np.empty((0, 2, scored), np.float32)
        self.expected = np.empty((0, scored), np.float32)

    def advance(self, z: Float64, end_slot: int) -> None:
        """z: the window's z-scores of the scored channels float64 [window, channel], NaN = no reading."""
        start = len(z) - self._hop
        if self.next_end != end_slot:
            self._clear()
            start = len(z) % self._hop
        self.next_end = end_slot + self._hop
        residuals, expected = self.ties.residuals(z, start)
        steps = steps_of(z)[start:]
        for at in range(0, len(residuals), self._hop):
            block = slice(at, at + self._hop)
            maps, adapted = self._running.advance(residuals[block], steps[block])
            self.scores = np.concatenate([self.scores, self.tails.score(maps)])
            self.adapted = np.concatenate([self.adapted, adapted])
        self.expected = np.concatenate([self.expected, expected.astype(np.float32)])
        kept = max(self._kept, len(residuals))
        self.scores, self.adapted, self.expected = (each[-kept:] for each in (self.scores, self.adapted, self.expected))


class GaussianScorer(WindowScorer):
    """The Scorer port over the closed form. Thread-safe but for its sessions.

    delay_steps: later slots that a slot waits for (a multiple of the hop); 0 leaves out what they say of its end.
    """

    name = "gaussian"

    def __init__(self, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        if hop_steps < 1 or WINDOW_STEPS % hop_steps:
            raise ConfigError(f"hop_steps: expected a divisor of the window's {WINDOW_STEPS}, found {hop_steps}")
        super().__init__(hop_steps, delay_steps, most_delay=WINDOW_STEPS - hop_steps)
        self.version = f"1-h{hop_steps}-d{delay_steps}"
        self.lookback_steps = delay_steps + 2 * hop_steps + ADAPT_STEPS + WINDOW_STEPS + _FORGET_STEPS

    # ---- history

    def fit(self, history: Float32) -> Fitted:
        self.check_history(history)
        normaliser = Normaliser.fit(history)
        z = _z(normaliser, history)[-_HISTORY_STEPS:]
        z = z[len(z) % self.hop_steps :]
        ties, residuals = cross_fitted(z)
        steps = steps_of(z)
        known = np.isfinite(steps)
        movement = np.where(known, steps, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        movement = np.tile(movement, (MOVES, 1))
        running, found = RunningMaps(z.shape[1], movement), []
        for at in range(0, len(z), self.hop_steps):
            found.append(running.advance(residuals[at : at + self.hop_steps], steps[at : at + self.hop_steps]))
        maps, adapted = (np.concatenate(each) for each in zip(*found, strict=True))
        ahead = ahead_maps(adapted, 0, len(z), min(self.delay_steps, GATE_STEPS) or GATE_STEPS)
        tails, ahead_tails = Tails.fit(maps, CENTRED, LEAST_SCALES), Tails.fit(ahead)
        raw = self._held_out(maps, ahead, tails, ahead_tails)
        arrays = {
            **normaliser.arrays(),
            **ties.arrays(),
            **tails.arrays("tails"),
            **ahead_tails.arrays("ahead"),
            "gaussian.movement": movement,
        }
        return Fitted(arrays, raw)

    def _held_out(self, maps: Float32, ahead: Float32, tails: Tails, ahead_tails: Tails) -> Float64:
        """Raw scores of the history as if it were new: by its own tails, raised by as much as a fold's 99% quantile
        rises when the fold is scored by the tails of the others; the median of the folds, as an odd one must not set
        the threshold. A fold's own largest values are no surprise to itself, and a slot is the largest of some hundred
        maps.
        """
        fold = np.arange(len(maps)) * FOLDS // len(maps)
        raw, rises = self._raw(maps, ahead, tails, ahead_tails), []
        for number in range(FOLDS):
            own, others = fold == number, fold != number
            one = Tails.fit(maps[others], CENTRED, LEAST_SCALES), Tails.fit(ahead[others])
            crossed = self._raw(maps[own], ahead[own], *one)
            rises.append(np.quantile(crossed, _RAISED) - np.quantile(raw[own], _RAISED))
        rise = np.max(rises) if len(maps) < _SHORT_STEPS else np.median(rises)
        return raw + max(float(rise), 0.0)

    def _raw(self, maps: Float32, ahead: Float32, tails: Tails, ahead_tails: Tails) -> Float64:
        gate = ahead_tails.score(ahead) if self.delay_steps else None
        return np.asarray(combined(tails.score(maps), gate).max(axis=1), np.float64)

    # ---- stream

    def open(self, arrays: Arrays) -> GaussianSession:
        return GaussianSession(arrays, self.hop_steps, self.delay_steps)

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        return [self._score(session, window) for session, window in batch]

    def _score(self, session: Session, window: Window) -> ScoredSlots:
        session = self.check_window(session, window, GaussianSession)
        session.advance(_z(session.normaliser, window.rows), window.end_slot)
        stop = len(session.scores) - 1 - window.end_slot + window.emit_to
        first = stop - max(window.emit_to - window.emit_from, 0)
        gate = None
        if self.delay_steps and stop > first:
            steps = min(self.delay_steps, GATE_STEPS)
            ahead = ahead_maps(session.adapted, first, stop, steps)
            score = session.ahead_tails.score(ahead)
            # The gate stays open while rows are still to come, and closes where they came without readings.
            unknown = np.asarray(np.isnan(ahead).all(axis=1))
            coming = np.asarray(len(session.adapted) - np.arange(first, stop) < steps)
            gate = np.where(unknown[:, None] & coming[:, None, None], np.inf, score).astype(np.float32)
        by_channel = combined(session.scores[first:stop], gate) if stop > first else np.empty((0, 1), np.float32)
        return _slots(session, window.emit_from, by_channel, slice(first, stop))


def _z(normaliser: Normaliser, rows: Float32) -> Float64:
    z = normaliser.apply(rows)[:, normaliser.scored].astype(np.float64)
    return np.clip(z, -_CLIP, _CLIP)


def _slots(session: GaussianSession, first_slot: int, by_channel: Float32, rows: slice) -> ScoredSlots:
    normaliser = session.normaliser
    expected, lower, upper = normaliser.intervals(session.expected[rows], session.ties.sd[1])
    if rows.start == rows.stop:
        return ScoredSlots(first_slot, np.empty(0), expected, lower, upper, expected)
    shares = attribution(by_channel**_SHARPNESS, normaliser.scored)
    return ScoredSlots(first_slot, by_channel.max(axis=1).astype(np.float64), expected, lower, upper, shares)
