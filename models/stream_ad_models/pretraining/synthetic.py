"""Synthetic normal series: what the universal imputer is pretrained on, and what the tests impute.

Every function is seeded by the numpy Generator it is given and works on float64 [series, step] at once: a part is
drawn for all series of a chunk and switched on by a random column, so a thousand series cost one pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SERIES_STEPS", "WAVES", "ar1", "synthetic_series", "synthetic_windows", "wave"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SERIES_STEPS = 1024
WAVES = ("sine", "saw", "square", "pulses", "harmonics", "rectified")
_CHUNK = 1000  # series drawn at once: bounds the memory to about 10 arrays of 8 MB
_FAMILIES = ("plain", "binary", "spiky", "hold", "quantised", "clipped")
_FAMILY_SHARE = (0.60, 0.06, 0.09, 0.08, 0.09, 0.08)


def _column(values: NDArray[np.generic]) -> Float64:
    return np.asarray(values, dtype=np.float64)[:, None]


def wave(kind: str, cycles: Float64, shape: Float64) -> Float64:
    """One periodic wave, about unit variance.

    cycles: [series, step] time in periods. shape: [series, 1] in (0, 1): duty of square and pulses, roll-off of
    the harmonics, rise share of the saw.
    """
    turn = cycles - np.floor(cycles)
    if kind == "sine":
        return np.asarray(np.sqrt(2.0) * np.sin(2 * np.pi * turn))
    if kind == "saw":
        rise = np.clip(shape, 0.02, 0.98)
        return np.asarray(np.where(turn < rise, turn / rise, (1 - turn) / (1 - rise)) * 3.46 - 1.73)
    if kind == "square":
        duty = np.clip(shape, 0.1, 0.9)
        return np.asarray(((turn < duty) - duty) / np.sqrt(duty * (1 - duty)))
    if kind == "pulses":
        narrow = 0.02 + 0.1 * shape
        return np.asarray(2.5 * np.exp(-0.5 * ((turn - 0.5) / narrow) ** 2))
    if kind == "harmonics":
        angle = 2 * np.pi * turn
        roll = 0.3 + 0.6 * shape
        parts = (roll**k * np.sin((k + 1) * angle + 7.0 * k * shape) for k in range(5))
        return np.asarray(1.2 * sum(parts))
    if kind == "rectified":
        return np.asarray(3.0 * (np.abs(np.sin(np.pi * turn)) - 0.64))
    raise ValueError(f"wave kind: expected one of {WAVES}, found {kind!r}")


def ar1(rng: np.random.Generator, coefficient: Float64, shocks: Float64) -> Float64:
    """Unit-variance AR(1) paths x_t = a x_(t-1) + sqrt(1 - a^2) e_t, started in their stationary law.

    coefficient: [series, 1] in [0, 1). shocks: [series, step], unit variance.
    """
    gain = np.sqrt(1 - coefficient**2)
    path = np.empty_like(shocks)
    last = rng.standard_normal(len(shocks))
    a, g = coefficient[:, 0], gain[:, 0]
    for step in range(shocks.shape[1]):
        last = a * last + g * shocks[:, step]
        path[:, step] = last
    return path


def _shocks(rng: np.random.Generator, count: int, steps: int) -> Float64:
    """Normal shocks, for a third of the series Student-t ones (2.5 to 8 degrees of freedom)."""
    shocks = rng.standard_normal((count, steps))
    heavy = np.flatnonzero(rng.random(count) < 0.33)
    freedom = _column(rng.uniform(2.5, 8.0, len(heavy)))
    shocks[heavy] /= np.sqrt(rng.chisquare(freedom, (len(heavy), steps)) / freedom)
    shocks[heavy] *= np.sqrt((freedom - 2) / freedom)
    return shocks


def _noise(rng: np.random.Generator, count: int, steps: int) -> Float64:
    """AR(1) from white to near random walk, some with a variance that itself wanders."""
    coefficient = 1 - 10 ** rng.uniform(-4.0, 0.0, count)
    coefficient[rng.random(count) < 0.35] = 0.0
    path = ar1(rng, _column(coefficient), _shocks(rng, count, steps))
    wander = ar1(rng, np.full((count, 1), 0.98), rng.standard_normal((count, steps)))
    uneven = _column(rng.random(count) < 0.15)
    return np.asarray(path * np.exp(0.7 * uneven * wander))


def _periodic(rng: np.random.Generator, count: int, steps: int) -> Float64:
    """One periodic part: period 4 to 400 steps, some with amplitude or phase modulation."""
    time = np.arange(steps, dtype=np.float64)
    period = 4.0 * 100.0 ** rng.random(count)
    whole = rng.random(count) < 0.4  # many real periods are a whole number of steps
    period[whole] = np.round(period[whole])
    cycles = time / _column(period) + _column(rng.random(count))
    drift = ar1(rng, np.full((count, 1), 0.999), rng.standard_normal((count, steps)))
    cycles += 0.15 * _column(rng.random(count) < 0.3) * drift
    shape = _column(rng.random(count))
    part = np.empty((count, steps))
    kind = rng.choice(len(WAVES), count, p=(0.35, 0.13, 0.13, 0.12, 0.17, 0.10))
    for number, name in enumerate(WAVES):
        rows = np.flatnonzero(kind == number)
        part[rows] = wave(name, cycles[rows], shape[rows])
    beat = np.sin(2 * np.pi * (time / _column(rng.uniform(60, 1000, count)) + _column(rng.random(count))))
    depth = _column((rng.random(count) < 0.3) * rng.uniform(0.2, 1.0, count))
    return np.asarray(part * (1 + depth * beat))


def _levels(rng: np.random.Generator, count: int, steps: int) -> Float64:
    """Piecewise constant paths: level changes at random steps, about 1 to 20 a series."""
    rate = _column(10 ** rng.uniform(-3.0, -1.7, count))
    jumps = (rng.random((count, steps)) < rate) * rng.standard_normal((count, steps))
    back = _column(rng.random(count) < 0.5)  # half of them wander off, half return to new levels around 0
    held = _hold(rng.standard_normal((count, steps)), jumps != 0)
    return np.asarray(np.where(back > 0, held, np.cumsum(jumps, axis=1)))


def _hold(values: Float64, change: NDArray[np.bool_]) -> Float64:
    """values held constant from each True of `change` to the next (sample and hold)."""
    index = np.where(change, np.arange(values.shape[1]), 0)
    index = np.maximum.accumulate(index, axis=1)
    return np.take_along_axis(values, index, axis=1)


def _trends(rng: np.random.Generator, count: int, steps: int) -> Float64:
    time = np.linspace(-1, 1, steps)
    bend = np.maximum(time - _column(rng.uniform(-1, 1, count)), 0)
    return np.asarray(_column(rng.normal(0, 1.2, count)) * time + _column(rng.normal(0, 1.5, count)) * bend)


def _spikes(rng: np.random.Generator, count: int, steps: int) -> Float64:
    """Sparse impulses, regular or at random times, each with an exponential tail of 0 to 15 steps."""
    random_hits = rng.random((count, steps)) < _column(10 ** rng.uniform(-2.5, -0.8, count))
    gap = _column(rng.integers(6, 200, count))
    regular_hits = np.mod(np.arange(steps) + _column(rng.integers(0, 200, count)), gap) < 1
    hits = np.where(_column(rng.random(count) < 0.5) > 0, random_hits, regular_hits)
    height = 1 + _column(rng.uniform(0, 0.6, count)) * rng.standard_normal((count, steps))
    decay = np.where(rng.random(count) < 0.4, 0.0, np.exp(-1 / rng.uniform(0.5, 15, count)))
    path = np.empty((count, steps))
    last = np.zeros(count)
    for step in range(steps):
        last = last * decay + hits[:, step] * height[:, step]
        path[:, step] = last
    return path


def _finish(rng: np.random.Generator, base: Float64, family: str) -> Float64:
    """Turn smooth-ish unit-variance paths into one of the families real telemetry comes in."""
    count, steps = len(base), int(base.shape[1])
    if family == "binary":
        cut = np.quantile(base, rng.uniform(0.1, 0.9), axis=1, keepdims=True)
        return np.asarray(base > cut, dtype=np.float64)
    if family == "spiky":
        quiet = _column(10 ** rng.uniform(-2.0, 0.0, count))
        return np.asarray(_spikes(rng, count, steps) * 3.0 + quiet * base)
    if family == "hold":
        rate = _column(10 ** rng.uniform(-2.0, -0.3, count))
        regular = np.mod(np.arange(steps), np.ceil(1 / rate)) < 1
        irregular = rng.random((count, steps)) < rate
        return _hold(base, np.where(_column(rng.random(count) < 0.5) > 0, regular, irregular))
    if family == "quantised":
        grain = _column(10 ** rng.uniform(-1.0, 0.3, count))
        return np.asarray(np.round(base / grain) * grain)
    if family == "clipped":
        low, high = rng.uniform(0, 0.3), rng.uniform(0.6, 1.0)
        bounds = np.quantile(base, (low * (rng.random() < 0.6), high), axis=1)
        return np.clip(base, bounds[0][:, None], bounds[1][:, None])
    return base


def _znorm(values: Float64) -> Float64:
    spread = values.std(axis=1, keepdims=True)
    return np.asarray((values - values.mean(axis=1, keepdims=True)) / np.where(spread > 1e-6, spread, 1.0))


def _chunk(rng: np.random.Generator, count: int, steps: int) -> Float32:
    parts = rng.choice(4, count, p=(0.2, 0.35, 0.27, 0.18))
    base = np.zeros((count, steps))
    for part in range(3):
        rows = np.flatnonzero(parts > part)
        amplitude = np.exp(rng.normal(0, 0.6, len(rows))) * 0.8**part
        base[rows] += _column(amplitude) * _periodic(rng, len(rows), steps)
    # without a periodic part the noise is the signal
    loudness = np.where(parts == 0, 1.0, 10 ** rng.uniform(-2.5, 0.4, count))
    base += _column(loudness) * _noise(rng, count, steps)
    base += _column((rng.random(count) < 0.25) * rng.uniform(0.3, 2.5, count)) * _levels(rng, count, steps)
    base += _column(rng.random(count) < 0.2) * _trends(rng, count, steps)
    regime = _column(rng.random(count) < 0.1) * np.clip(_levels(rng, count, steps), -2, 2)
    base = _znorm(base * np.exp(0.6 * regime))
    kind = rng.choice(len(_FAMILIES), count, p=_FAMILY_SHARE)
    for number, family in enumerate(_FAMILIES):
        for rows in np.array_split(np.flatnonzero(kind == number), 8):
            if len(rows):
                base[rows] = _finish(rng, base[rows], family)
    return _znorm(base).astype(np.float32)


def synthetic_series(rng: np.random.Generator, count: int, steps: int = SERIES_STEPS) -> Float32:
    """`count` normal series, float32 [count, steps], each z-normalised over all its steps."""
    if count < 1 or steps < 2:
        raise ValueError(f"synthetic series: expected count >= 1 and steps >= 2, found {count} and {steps}")
    sizes = [_CHUNK] * (count // _CHUNK) + ([count % _CHUNK] if count % _CHUNK else [])
    return np.concatenate([_chunk(rng, size, steps) for size in sizes])


def synthetic_windows(rng: np.random.Generator, series: Float32, count: int, window_steps: int) -> Float32:
    """`count` windows cut at random out of series [n, step]: float32 [count, window]."""
    if series.shape[1] < window_steps:
        raise ValueError(f"window: expected at most {series.shape[1]} steps, found {window_steps}")
    rows = rng.integers(0, len(series), count)
    starts = rng.integers(0, series.shape[1] - window_steps + 1, count)
    return np.asarray(series[rows[:, None], starts[:, None] + np.arange(window_steps)])
