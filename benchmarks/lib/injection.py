"""Known anomalies put into normal data: what scores are measured on, and parts weighted by, where there are no labels.

After Goswami et al., "Unsupervised Model Selection for Time-series Anomaly Detection", ICLR 2023, who choose among
detectors by synthetic anomalies (theirs in brackets); correlation and segment are ours. Sizes are drawn log-uniformly
in units of the channel's own spread, lengths log-uniformly. Pure numpy, seeded by the generator it is given.

level (contextual): .5 to 3 spreads higher or lower.   drift (wander): a ramp from 0 to 1 to 4 spreads.
speed (speedup): played 1.3 to 3 times faster, or slower.
correlation: one channel that goes with others, 4 to 100 steps early or late.
segment: another time's rows, channels together.       spike: 3 to 8 spreads away for 1 to 3 rows.
noise: white noise of .3 to 1.5 spreads on top.        flat (cutoff): frozen at its first reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError

__all__ = ["CONTEXTUAL", "KINDS", "Injection", "inject", "moving_channels"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

CONTEXTUAL = ("level", "drift", "speed", "correlation", "segment")
KINDS = (*CONTEXTUAL, "spike", "noise", "flat")
LENGTHS = (8, 200)
_SPIKE_LENGTHS = (1, 3)
_SHIFTS = (4, 100)
_COUPLED = 0.5  # absolute correlation with another channel from which on there is something to lose
_LEAST_CHANGE = 0.3  # root mean square over the segment, in spreads: a smaller one is hardly an anomaly
_MOST_OF_ROWS = 4  # a segment takes a quarter of the rows at most, so that there is another time to take rows from
_TRIES = 50


class Injection(NamedTuple):
    """rows: float32 [n, channel], a copy; label: bool [n], one run of True; channels: bool [channel], those changed."""

    rows: Float32
    label: Bool
    channels: Bool


@dataclass(frozen=True, slots=True)
class _Draw:
    """One attempt. picked: int [p] channels; spread: float64 [p]; the segment is rows start ... stop - 1."""

    rng: np.random.Generator
    rows: Float32
    start: int
    stop: int
    picked: NDArray[np.intp]
    spread: Float64

    @property
    def steps(self) -> int:
        return self.stop - self.start

    @property
    def own(self) -> Float64:
        """float64 [segment, p]"""
        return self.rows[self.start : self.stop, self.picked].astype(np.float64)

    def sizes(self, least: float, most: float) -> Float64:
        """One signed size a channel, in the rows' units: float64 [p]."""
        sign = self.rng.choice((-1.0, 1.0), len(self.picked))
        return np.asarray(sign * self.spread * _log_uniform(self.rng, least, most, len(self.picked)))


def inject(
    rng: np.random.Generator,
    rows: Float32,
    kind: str,
    *,
    within: tuple[int, int] | None = None,
    lengths: tuple[int, int] = LENGTHS,
) -> Injection:
    """`rows` with one anomaly of `kind` in 1 ... max(1, K / 4) of the K channels that move.

    rows: float32 [n, channel] normal data, NaN = no reading (kept missing); within: half-open range of rows that holds
    the segment, all by default (rows are taken from anywhere); lengths: shortest and longest in steps (spikes: 1 to 3).
    DataError: fewer than 4 rows a step of the shortest length, no channel moves, or 50 draws changed next to nothing
    (freezing a channel that hardly moves). ValueError: a kind that is none of KINDS.
    """
    if kind not in _CHANGES:
        raise ValueError(f"kind: expected one of {KINDS}, found {kind!r}")
    first, last = (0, len(rows)) if within is None else within
    shortest, longest = _SPIKE_LENGTHS if kind == "spike" else lengths
    longest = min(longest, last - first, len(rows) // _MOST_OF_ROWS)
    if longest < shortest:
        raise DataError(f"rows: expected room for {shortest} steps, found {longest} of {len(rows)} rows")
    candidates = _coupled(rows) if kind == "correlation" else np.flatnonzero(moving_channels(rows))
    if not len(candidates):
        raise DataError(f"rows: expected a channel that moves, found none of {rows.shape[1]}")
    most = 1 if kind == "correlation" else max(1, len(candidates) // 4)
    spreads = _spread(rows)
    for _ in range(_TRIES):
        steps = round(float(_log_uniform(rng, shortest, longest, 1)[0]))
        start = int(rng.integers(first, last - steps + 1))
        picked = rng.choice(candidates, int(rng.integers(1, most + 1)), replace=False)
        draw = _Draw(rng, rows, start, start + steps, picked, spreads[picked])
        changed = _CHANGES[kind](draw)
        changed = np.where(np.isnan(changed) | np.isnan(draw.own), draw.own, changed)
        felt = np.nan_to_num(changed - draw.own) / draw.spread
        enough = np.sqrt(np.mean(np.square(felt), axis=0)) >= _LEAST_CHANGE
        if enough.any():
            return _result(rows, start, picked[enough], changed[:, enough])
    raise DataError(f"kind {kind}: expected a change of {_LEAST_CHANGE} spreads, found less in {_TRIES} draws")


def moving_channels(rows: Float32) -> Bool:
    """bool [channel]: more than two different readings; binary channels where there are no others."""
    kinds = np.array([_distinct(column) for column in rows.T], dtype=np.int64)
    return np.asarray(kinds > 2 if (kinds > 2).any() else kinds > 1)


def _result(rows: Float32, start: int, channels: NDArray[np.intp], changed: Float64) -> Injection:
    out, label, named = rows.copy(), np.zeros(len(rows), np.bool_), np.zeros(rows.shape[1], np.bool_)
    stop = start + len(changed)
    out[start:stop, channels] = changed
    label[start:stop], named[channels] = True, True
    return Injection(out, label, named)


# ---- kinds: _Draw -> the segment's new rows, float64 [segment, p]; NaN = the reading there was


def _level(draw: _Draw) -> Float64:
    return draw.own + draw.sizes(0.5, 3.0)


def _drift(draw: _Draw) -> Float64:
    ramp = np.arange(1, draw.steps + 1) / draw.steps
    return np.asarray(draw.own + ramp[:, None] * draw.sizes(1.0, 4.0))


def _speed(draw: _Draw) -> Float64:
    factor = float(_log_uniform(draw.rng, 1.3, 3.0, 1)[0])
    factor = factor if draw.rng.random() < 0.5 else 1 / factor
    at = draw.start + factor * np.arange(draw.steps)
    at -= max(at[-1] - (len(draw.rows) - 1), 0.0)
    below = np.floor(at).astype(np.int64)
    part = (at - below)[:, None]
    low, high = (draw.rows[np.ix_(np.minimum(each, len(draw.rows) - 1), draw.picked)] for each in (below, below + 1))
    return np.asarray(np.where(part > 0, (1 - part) * low + part * high, low))


def _correlation(draw: _Draw) -> Float64:
    out = np.empty((draw.steps, len(draw.picked)))
    for number, channel in enumerate(draw.picked):
        late, early = min(_SHIFTS[1], draw.start), min(_SHIFTS[1], len(draw.rows) - draw.stop)
        sign, most = (-1, late) if draw.rng.random() * (late + early) < late else (1, early)
        shift = sign * round(float(_log_uniform(draw.rng, min(_SHIFTS[0], most), most, 1)[0]))
        out[:, number] = draw.rows[draw.start + shift : draw.stop + shift, channel]
    return out


def _segment(draw: _Draw) -> Float64:
    before, after = max(draw.start - draw.steps + 1, 0), max(len(draw.rows) - draw.steps - draw.stop + 1, 0)
    place = int(draw.rng.integers(before + after))
    other = place if place < before else draw.stop + place - before
    return draw.rows[other : other + draw.steps, draw.picked].astype(np.float64)


def _spike(draw: _Draw) -> Float64:
    return draw.own + draw.sizes(3.0, 8.0)


def _noise(draw: _Draw) -> Float64:
    return np.asarray(draw.own + draw.sizes(0.3, 1.5) * draw.rng.standard_normal((draw.steps, len(draw.picked))))


def _flat(draw: _Draw) -> Float64:
    own = draw.own
    first = np.argmax(~np.isnan(own), axis=0)
    return np.where(np.isnan(own), np.nan, own[first, np.arange(len(first))])


_CHANGES: Mapping[str, Callable[[_Draw], Float64]] = {
    "level": _level,
    "drift": _drift,
    "speed": _speed,
    "correlation": _correlation,
    "segment": _segment,
    "spike": _spike,
    "noise": _noise,
    "flat": _flat,
}


# ---- helpers


def _log_uniform(rng: np.random.Generator, least: float, most: float, count: int) -> Float64:
    return np.exp(rng.uniform(math.log(max(least, 1e-9)), math.log(max(most, 1e-9)), count))


def _distinct(column: Float32) -> int:
    return len(np.unique(column[~np.isnan(column)]))


def _spread(rows: Float32) -> Float64:
    """Standard deviation of the readings float64 [channel]; 1 where there is none or nothing moves."""
    present = ~np.isnan(rows)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, rows, 0.0).astype(np.float64)
    centred = np.where(present, values - values.sum(axis=0) / count, 0.0)
    spread = np.sqrt(np.square(centred).sum(axis=0) / count)
    return np.asarray(np.where(spread > 0, spread, 1.0))


def _coupled(rows: Float32) -> NDArray[np.intp]:
    """Channels that go with another: absolute correlation of .5 or more, else the one nearest to it; the moving ones
    where there is but one."""
    moving = np.flatnonzero(moving_channels(rows))
    if len(moving) < 2:
        return moving
    values = rows[:, moving].astype(np.float64)
    present = ~np.isnan(values)
    mean = np.where(present, values, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    centred = np.where(present, values - mean, 0.0)
    unit = centred / np.maximum(np.sqrt(np.square(centred).sum(axis=0)), 1e-12)
    closest = np.abs(unit.T @ unit - np.eye(len(moving))).max(axis=0)
    return np.asarray(moving[closest >= min(_COUPLED, float(closest.max()))])
