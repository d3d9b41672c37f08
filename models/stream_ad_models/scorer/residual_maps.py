"""Residuals read at several lengths: level and energy under exponential means, and the channel's own movement.

Block by block, as a stream brings them; means fade without readings, so that a bounded look-back repeats them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = [
    "ADAPT_STEPS",
    "CENTRED",
    "GATE_STEPS",
    "LEAST_SCALES",
    "MAPS",
    "MOVES",
    "RunningMaps",
    "ahead_maps",
    "combined",
    "steps_of",
]

_LEVEL_GAINS = (1.0, 0.3, 0.1, 0.03)
_ENERGY_GAINS = (0.3, 0.1, 0.03)
_MOVE_GAINS = (0.1, 0.03)
_MOST_ENERGY = 100.0
_LEAST_MOVE = 1e-3
_STILL = 1e-9
_LONGEST_RUN = 1_000

ADAPT_STEPS, _ADAPT_GAP = 1_024, 64  # a slow level and scale: of rows that long ago, at least and at most
_ADAPT_PRIOR = 256  # rows of level 0 and scale 1
_ADAPT_CLIP = 3.0
_LEAST_VARIANCE = 0.5

_GATE_GAINS = (0.3, 0.1)
GATE_STEPS = 32
_GATE_MARGIN = 4.0  # nats by which a slot may exceed what the readings from it on say
_LEVELS, _ENERGIES, MOVES = 2 * len(_LEVEL_GAINS), 2 * len(_ENERGY_GAINS), len(_MOVE_GAINS)
_MEANS = _LEVELS + _ENERGIES + MOVES  # exponential means a channel keeps
_GATED = _LEVELS + _ENERGIES
MAPS = _GATED + 2 * MOVES + 1
_GAINS = np.array([*2 * _LEVEL_GAINS, *2 * _ENERGY_GAINS, *_MOVE_GAINS])[:, None]
_FADES = np.minimum(_GAINS, 0.1) / 4  # without readings a mean returns to where it started: nothing old stays for ever
_RUN_FADE = 1 / 64
LEAST_SCALES = np.where(np.arange(MAPS) == MAPS - 1, 0.25, 0.0)  # one repeated reading is no run
CENTRED = np.where(np.arange(MAPS) >= _GATED, 1.0, 0.0)  # movement and runs have a normal size other than 0


class RunningMaps:
    """Running means of one stream of residuals, block by block."""

    def __init__(self, channels: int, movement: Float64) -> None:
        """movement: float64 [move gain, channel], where the means of absolute steps start."""
        self._start = np.zeros((_MEANS, channels))
        self._start[_LEVELS : _LEVELS + _ENERGIES] = 1.0
        self._start[_LEVELS + _ENERGIES :] = movement
        self._means = self._start.copy()
        self._run = np.zeros(channels)
        self._blocks: list[tuple[Float64, Float64, Float64]] = []  # counts, sums and squares of each block [2, channel]

    def advance(self, residuals: Float64, steps: Float64) -> tuple[Float32, Float32]:
        """One block: residuals [hop, 2, channel] and absolute steps [hop, channel] of the signal, NaN = none.

        Returns maps float32 [hop, map, channel] and the residuals less their slow level, over their slow scale.
        """
        level, scale = self._slow(len(residuals))
        adapted = (residuals - level) / scale
        self._remember(residuals)
        energy = np.minimum(adapted**2, _MOST_ENERGY)
        means = np.empty((len(residuals), _MEANS, residuals.shape[2]))
        runs = np.empty((len(residuals), residuals.shape[2]))
        source = np.concatenate(
            [
                np.repeat(adapted, len(_LEVEL_GAINS), axis=1),
                np.repeat(energy, len(_ENERGY_GAINS), axis=1),
                np.repeat(steps[:, None], MOVES, axis=1),
            ],
            axis=1,
        )
        known = np.isfinite(source)
        source = np.where(known, source, self._start)
        gains = np.where(known, _GAINS, _FADES)
        counted = ~np.isnan(steps)
        still = np.where(counted, steps < _STILL, 1 - _RUN_FADE)
        for row in range(len(residuals)):
            self._means += gains[row] * (source[row] - self._means)
            means[row] = self._means
            self._run = np.minimum((self._run + counted[row]) * still[row], _LONGEST_RUN)
            runs[row] = self._run
        return _maps(means, runs), adapted.astype(np.float32)

    def _slow(self, hop: int) -> tuple[Float64, Float64]:
        """Level and scale [2, channel] of clipped residuals of the blocks behind the gap."""
        behind = self._blocks[: max(len(self._blocks) - _ADAPT_GAP // hop, 0)]
        count = _ADAPT_PRIOR + sum((block[0] for block in behind), 0.0)
        total, squares = (sum((block[number] for block in behind), 0.0) for number in (1, 2))
        level = total / count
        variance = (squares + _ADAPT_PRIOR) / count - level**2
        return np.asarray(level), np.sqrt(np.maximum(variance, _LEAST_VARIANCE))

    def _remember(self, residuals: Float64) -> None:
        clipped = np.clip(residuals, -_ADAPT_CLIP, _ADAPT_CLIP)
        known = np.isfinite(clipped)
        clipped = np.where(known, clipped, 0.0)
        self._blocks.append((known.sum(axis=0).astype(float), clipped.sum(axis=0), (clipped**2).sum(axis=0)))
        del self._blocks[: max(len(self._blocks) - ADAPT_STEPS // len(residuals), 0)]


def _maps(means: Float64, runs: Float64) -> Float32:
    """float32 [n, map, channel]: sizes of levels, energies, stillness, movement, runs without a change."""
    movement = np.log(means[:, _GATED:] + _LEAST_MOVE)
    out = [np.abs(means[:, :_LEVELS]), np.sqrt(means[:, _LEVELS:_GATED]), -movement, movement, np.log1p(runs)[:, None]]
    return np.concatenate(out, axis=1).astype(np.float32)


def ahead_maps(adapted: Float32, first: int, stop: int, steps: int) -> Float32:
    """Level and energy of the residuals from each of rows first ... stop - 1 on, under kernels that fall off over at
    most `steps` rows: float32 [n, 2 * 2 * gain, channel]; NaN where nothing is known. adapted: [row, 2, channel]."""
    count, channels = stop - first, adapted.shape[2]
    padded = np.concatenate([adapted[first:], np.full((steps, 2, channels), np.nan, np.float32)])
    near = np.lib.stride_tricks.sliding_window_view(padded, steps, axis=0)[:count]
    known = np.isfinite(near)
    near = np.where(known, near, 0.0)
    out = []
    for gain in _GATE_GAINS:
        kernel = (gain * (1 - gain) ** np.arange(steps)).astype(np.float32)
        weight = known @ kernel
        weight = np.where(weight > 0, weight, np.nan)
        out += [np.abs(near @ kernel) / weight, np.sqrt(np.minimum(near**2, _MOST_ENERGY) @ kernel / weight)]
    return np.concatenate(out, axis=1).astype(np.float32)


def combined(maps: Float32, ahead: Float32 | None) -> Float32:
    """Scores by channel [n, channel] from tail scores of the maps and of the readings from each slot on."""
    gated, own = maps[:, :_GATED].max(axis=1), maps[:, _GATED:].max(axis=1)
    if ahead is not None:
        gated = np.minimum(gated, ahead.max(axis=1) + _GATE_MARGIN)
    return np.asarray(np.maximum(gated, own), np.float32)


def steps_of(z: Float64) -> Float64:
    """Absolute steps [n, channel]; NaN where one of the two readings is missing, and in the first row."""
    return np.abs(np.diff(z, axis=0, prepend=np.nan))
