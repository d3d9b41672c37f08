"""Faults that people can name, put into normal rows: 13 kinds in three strengths, each with its clean twin.

A fault changes its own channels in its own rows and nothing else, so the labels are exact. Sizes are in robust standard
deviations (1.4826 times the median absolute deviation) of the channel over the fitted rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "STRENGTHS", "Fault", "fault_schedule", "put", "robust_sd"]

Float64 = NDArray[np.float64]

STRENGTHS = (3.0, 1.5, 0.75)
LENGTHS = (30, 300)
_SPACE = 250  # rows between two faults, and before the first: no window of the product is longer


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows start ... stop - 1 of `channels` are wrong. strength: in robust standard deviations; kinds without a size
    (stuck, dropout, another time, decoupled, lag, swap) carry the one they were dealt."""

    kind: str
    strength: float
    start: int
    stop: int
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Draw:
    """rows: float64 [n, channel], clean; sd: float64 [channel]."""

    rng: np.random.Generator
    rows: Float64
    sd: Float64
    start: int
    stop: int
    channel: int
    strength: float

    @property
    def own(self) -> Float64:
        return self.rows[self.start : self.stop, self.channel]

    @property
    def steps(self) -> int:
        return self.stop - self.start

    @property
    def size(self) -> float:
        return float(self.rng.choice((-1.0, 1.0)) * self.strength * self.sd[self.channel])

    def elsewhere(self) -> Float64:
        """The channel's own rows of another time, at least a fault's length away."""
        starts = np.arange(len(self.rows) - self.steps)
        far = starts[(starts + self.steps <= self.start - self.steps) | (starts >= self.stop + self.steps)]
        at = int(self.rng.choice(far if len(far) else starts))
        return self.rows[at : at + self.steps, self.channel]


def robust_sd(rows: Float64) -> Float64:
    """float64 [channel]; the ordinary one where more than half of the readings are equal, 1 where nothing moves."""
    middle = np.nanmedian(rows, axis=0)
    robust = 1.4826 * np.nanmedian(np.abs(rows - middle), axis=0)
    plain = np.nanstd(rows, axis=0)
    return np.where(robust > 1e-9, robust, np.where(plain > 1e-9, plain, 1.0))


def _level(draw: _Draw) -> Float64:
    return draw.own + draw.size


def _drift(draw: _Draw) -> Float64:
    return np.asarray(draw.own + draw.size * np.arange(1, draw.steps + 1) / draw.steps)


def _spikes(draw: _Draw) -> Float64:
    hit = draw.rng.random(draw.steps) < 1 / 8
    hit[[0, -1]] = True
    return np.asarray(draw.own + np.where(hit, 2 * draw.size * draw.rng.uniform(0.7, 1.3, draw.steps), 0.0))


def _noise(draw: _Draw) -> Float64:
    return np.asarray(draw.own + abs(draw.size) * draw.rng.standard_normal(draw.steps))


def _stuck(draw: _Draw) -> Float64:
    return np.full(draw.steps, draw.rows[max(draw.start - 1, 0), draw.channel])


def _dropout(draw: _Draw) -> Float64:
    return np.zeros(draw.steps)


def _decoupled(draw: _Draw) -> Float64:
    """A copy with the channel's own movement that ignores the others: its steps in another order."""
    steps = np.diff(draw.own, prepend=draw.own[0])
    walk = draw.own[0] + np.cumsum(draw.rng.permutation(steps))
    bridge = np.linspace(0.0, draw.own[-1] - walk[-1], draw.steps)
    return np.asarray(walk + bridge)


def _lag(draw: _Draw) -> Float64:
    shift = max(2, round(4 * draw.strength))
    late = np.arange(draw.start, draw.stop) - shift
    return np.asarray(draw.rows[np.maximum(late, 0), draw.channel])


def _oscillation(draw: _Draw) -> Float64:
    period = draw.rng.uniform(6, 20)
    return np.asarray(draw.own + draw.size * np.sin(2 * np.pi * np.arange(draw.steps) / period))


def _speed(draw: _Draw) -> Float64:
    factor = 1 + draw.strength / 2
    at = np.minimum(draw.start + factor * np.arange(draw.steps), len(draw.rows) - 1)
    return np.asarray(np.interp(at, np.arange(len(draw.rows)), draw.rows[:, draw.channel]))


def _gain(draw: _Draw) -> Float64:
    factor = 1 + draw.strength / 2 if draw.rng.random() < 0.5 else 1 / (1 + draw.strength / 2)
    middle = np.nanmedian(draw.rows[:, draw.channel])
    return np.asarray(middle + factor * (draw.own - middle))


_SINGLE: Mapping[str, Callable[[_Draw], Float64]] = {
    "level": _level,
    "drift": _drift,
    "spikes": _spikes,
    "noise": _noise,
    "stuck": _stuck,
    "dropout": _dropout,
    "another-time": lambda draw: draw.elsewhere(),
    "decoupled": _decoupled,
    "lag": _lag,
    "oscillation": _oscillation,
    "speed": _speed,
    "gain": _gain,
}
KINDS = (*_SINGLE, "swap")
_OF_ONE = {"level", "drift", "spikes", "noise", "stuck", "dropout", "another-time", "oscillation", "speed", "gain"}


def fault_schedule(
    rng: np.random.Generator, rows: int, channels: NDArray[np.intp], deck: list[tuple[str, float]]
) -> list[Fault]:
    """Faults that do not touch, dealt from `deck` (kind, strength) as far as the rows go; the others stay in it.

    channels: those that move. With one channel the kinds that need a second stay out.
    """
    faults: list[Fault] = []
    at = _SPACE
    while deck:
        steps = int(np.exp(rng.uniform(*np.log(LENGTHS))))
        if at + steps + _SPACE > rows:
            break
        kind, strength = deck.pop()
        if len(channels) < 2 and kind not in _OF_ONE:
            continue
        picked = rng.choice(channels, 2 if kind == "swap" else 1, replace=False)
        faults.append(Fault(kind, strength, at, at + steps, tuple(int(one) for one in picked)))
        at += steps + _SPACE + int(rng.integers(0, _SPACE))
    return faults


def put(rng: np.random.Generator, rows: Float64, faults: list[Fault], sd: Float64) -> Float64:
    """A copy of rows float64 [n, channel] with the faults in it; what is missing stays missing."""
    out = rows.copy()
    for fault in faults:
        span = slice(fault.start, fault.stop)
        if fault.kind == "swap":
            first, second = fault.channels
            scaled = (rows[span, second] - np.nanmedian(rows[:, second])) / sd[second]
            other = (rows[span, first] - np.nanmedian(rows[:, first])) / sd[first]
            out[span, first] = np.nanmedian(rows[:, first]) + scaled * sd[first]
            out[span, second] = np.nanmedian(rows[:, second]) + other * sd[second]
            continue
        draw = _Draw(rng, rows, sd, fault.start, fault.stop, fault.channels[0], fault.strength)
        out[span, fault.channels[0]] = _SINGLE[fault.kind](draw)
    return np.where(np.isnan(rows), np.nan, out)
