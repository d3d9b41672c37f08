"""Features of windows: levels, spectrum and shape of every channel, each at several window lengths.

levels: standard deviation, range, maximum, minimum, mean (window_stats.py). spectrum: amplitude in 6 octave-like
bands, invariant to phase and level. shape: 8 means over the window, less their mean, over their spread, so invariant to
level and nearly to size. Levels alone take a beat of another form but the same size and range for normal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.memory.window_stats import Blocks, window_stats

Float32 = NDArray[np.float32]

__all__ = ["FEATURE_SETS", "LEVELS", "SHAPE", "SPECTRUM", "FeatureSet", "Features"]

_BANDS = 6
_CELLS = 8
_SHAPE_FLOOR = 0.2  # in z-scores, added to the spread: noise of a still channel has no shape
_AT_ONCE = 2**20  # values of windows per step: bounds the memory to some 10 MB


@dataclass(frozen=True, slots=True)
class Features:
    """values: float32 [length, block, channel, feature], 0 where not present. present: bool [length, block, channel],
    at least half of the window has readings. A block stands for the window that ends with it."""

    values: Float32
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """size: features a channel; lengths: in steps, powers of two times the hop."""

    name: str
    size: int
    lengths: tuple[int, ...]
    _of: Callable[[Float32, Sequence[int], int, int], Features]

    def with_hop(self, hop: int) -> FeatureSet:
        """Without the lengths below the hop."""
        return replace(self, lengths=tuple(length for length in self.lengths if length >= hop))

    def of(self, rows: Float32, lengths: Sequence[int], hop: int, new: int) -> Features:
        """Features of the windows that end with the last `new` blocks of rows float32 [blocks * hop, channel], NaN = no
        reading; rows before the first count as missing."""
        return self._of(rows, lengths, hop, new)


def _stacked(parts: Sequence[tuple[Float32, NDArray[np.bool_]]]) -> Features:
    """One (values [block, channel, feature], present [block, channel]) per length."""
    return Features(np.stack([values for values, _ in parts]), np.stack([present for _, present in parts]))


def _levels(rows: Float32, lengths: Sequence[int], hop: int, new: int) -> Features:
    found = window_stats(Blocks.of(rows, hop), lengths, hop)
    first = len(rows) // hop - new
    return _stacked([(found[length].values[first:], found[length].present[first:]) for length in lengths])


def _spectrum(rows: Float32, lengths: Sequence[int], hop: int, new: int) -> Features:
    return _stacked([_by_window(rows, length, hop, new, _BANDS, _band_amplitudes) for length in lengths])


def _shape(rows: Float32, lengths: Sequence[int], hop: int, new: int) -> Features:
    return _stacked([_by_window(rows, length, hop, new, _CELLS, _cell_means) for length in lengths])


def _by_window(
    rows: Float32, length: int, hop: int, new: int, size: int, of: Callable[[Float32], Float32]
) -> tuple[Float32, NDArray[np.bool_]]:
    """`of` receives windows float32 [window, channel, length] of mean 0, missing readings interpolated linearly: filled
    with the mean instead, a third missing would change the spectrum."""
    wanted = length - hop + new * hop
    online = rows[-wanted:]
    before = np.full((wanted - len(online), rows.shape[1]), np.nan, np.float32)
    view = np.lib.stride_tricks.sliding_window_view(np.concatenate([before, online]), length, axis=0)[::hop]
    values = np.empty((new, rows.shape[1], size), np.float32)
    present = np.empty((new, rows.shape[1]), np.bool_)
    step = max(_AT_ONCE // (length * rows.shape[1]), 1)
    for at in range(0, new, step):
        windows = view[at : at + step]
        read = ~np.isnan(windows)
        filled = windows if read.all() else _interpolated(windows, read)
        present[at : at + step] = read.sum(axis=2) >= length / 2
        values[at : at + step] = of(filled - filled.mean(axis=2, keepdims=True))
    return np.where(present[:, :, None], values, np.float32(0.0)), present


def _interpolated(windows: Float32, read: NDArray[np.bool_]) -> Float32:
    """Missing readings interpolated linearly, the mean beyond the first and last; 0 for a window without readings."""
    steps = np.arange(windows.shape[2])
    before = np.maximum.accumulate(np.where(read, steps, -1), axis=2)
    after = np.minimum.accumulate(np.where(read, steps, len(steps))[..., ::-1], axis=2)[..., ::-1]
    known = np.nan_to_num(windows)
    first = np.take_along_axis(known, np.maximum(before, 0), axis=2)
    last = np.take_along_axis(known, np.minimum(after, len(steps) - 1), axis=2)
    lines = first + (last - first) * ((steps - before) / np.maximum(after - before, 1))
    mean = known.sum(axis=2, keepdims=True) / np.maximum(read.sum(axis=2, keepdims=True), 1)
    return np.asarray(np.where((before < 0) | (after == len(steps)), mean, lines), np.float32)


def _band_amplitudes(windows: Float32) -> Float32:
    """Root of the power in bands that widen geometrically from the first harmonic to the last."""
    length = windows.shape[2]
    bounds = np.round(np.geomspace(1, length // 2 + 1, _BANDS + 1)).astype(int)
    bounds = np.maximum(bounds, np.arange(1, _BANDS + 2))  # no band is empty
    spectrum = np.fft.rfft(windows, axis=2)
    power = (spectrum.real**2 + spectrum.imag**2) / length**2
    sums = np.add.reduceat(power[:, :, : length // 2 + 1], bounds[:-1], axis=2)
    return np.asarray(np.sqrt(sums), np.float32)


def _cell_means(windows: Float32) -> Float32:
    cells = windows.reshape(*windows.shape[:2], _CELLS, -1).mean(axis=3)
    cells = cells - cells.mean(axis=2, keepdims=True)
    return np.asarray(cells / (cells.std(axis=2, keepdims=True) + _SHAPE_FLOOR), np.float32)


LEVELS = FeatureSet("levels", 5, (16, 32, 64, 128, 256), _levels)
SPECTRUM = FeatureSet("spectrum", _BANDS, (64, 128), _spectrum)
SHAPE = FeatureSet("shape", _CELLS, (64, 128, 256), _shape)
FEATURE_SETS = {each.name: each for each in (LEVELS, SPECTRUM, SHAPE)}
