"""Reference of the window memory: loops over windows, channels and stored windows. Slow; for tests only."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

FLOOR, CLIP, SMALLEST_MAX, RATIO_FLOOR, CONTAMINATED = 0.1, 100.0, 0.2, 0.1, 0.03


def features(rows: NDArray[np.float32], end: int, length: int) -> Float64:
    """[channel, 5] of the `length` rows up to row `end`; NaN for a channel read in less than half of them."""
    window = rows[max(end + 1 - length, 0) : end + 1].astype(np.float64)
    out = np.full((rows.shape[1], 5), np.nan)
    for channel in range(rows.shape[1]):
        values = window[~np.isnan(window[:, channel]), channel]
        if len(values) >= length / 2:
            high, low = values.max(), values.min()
            out[channel] = [values.std(), high - low, high, low, values.mean()]
    return out


def spectrum(rows: NDArray[np.float32], end: int, length: int) -> Float64:
    """[channel, 6] root of the power in 6 bands; NaN for a channel read in less than half of the window."""
    bounds = [round(float(bound)) for bound in np.geomspace(1, length // 2 + 1, 7)]
    out = np.full((rows.shape[1], 6), np.nan)
    for channel, values in enumerate(_filled(rows, end, length)):
        if values is not None:
            power = np.abs(np.fft.fft(values - values.mean())) ** 2 / length**2
            out[channel] = [math.sqrt(power[low:high].sum()) for low, high in pairwise(bounds)]
    return out


def shape(rows: NDArray[np.float32], end: int, length: int) -> Float64:
    """[channel, 8] means of eighths of the window, less their mean, over their spread + .2."""
    out = np.full((rows.shape[1], 8), np.nan)
    for channel, values in enumerate(_filled(rows, end, length)):
        if values is not None:
            cells = np.array([part.mean() for part in np.split(values - values.mean(), 8)])
            out[channel] = (cells - cells.mean()) / (cells.std() + 0.2)
    return out


def _filled(rows: NDArray[np.float32], end: int, length: int) -> list[Float64 | None]:
    """Each channel's window, missing readings interpolated linearly, the mean beyond the first and the last; None with
    less than half of the readings."""
    window = np.full((length, rows.shape[1]), np.nan)
    there = rows[max(end + 1 - length, 0) : end + 1]
    window[length - len(there) :] = there
    out: list[Float64 | None] = []
    for values in window.T:
        seen = ~np.isnan(values)
        steps, mean = np.arange(length), values[seen].mean() if seen.any() else math.nan
        filled = np.interp(steps, steps[seen], values[seen], mean, mean) if seen.any() else values
        out.append(filled if seen.sum() >= length / 2 else None)
    return out


def kept(window: Float64) -> Float64:
    """A window as a memory stores it: 0 for missing features, each a whole number of steps, 127 for the largest."""
    values = np.nan_to_num(window)
    unit = max(abs(values).max(), 1e-6) / 127
    return np.asarray(np.round(values / unit) * unit)


class NaiveMemory:
    """One length, every full window that ends on a multiple of `hop` stored."""

    def __init__(self, history: NDArray[np.float32], length: int, hop: int) -> None:
        self.length, self.hop = length, hop
        self.blocks = len(history) // hop
        table = np.stack([features(history, (b + 1) * hop - 1, length) for b in range(self.blocks)])
        first = length // hop - 1
        self.centre = np.nanmean(table[first:], axis=0)
        self.scale = np.maximum(np.nanstd(table[first:], axis=0), FLOOR)
        self.table = self._standardise(table)
        full = [b for b in range(first, self.blocks) if not np.isnan(table[b]).all()]
        self.stored = {b: kept(self.table[b]) for b in full}
        self.held = {b: self._distance(self.table[b], self._fold(b)) for b in range(self.blocks)}
        trusted = sorted(full, key=lambda b: self.held[b])[: len(full) - int(CONTAMINATED * len(full))]
        self.held_out_max = max(self.held[trusted[-1]], SMALLEST_MAX)
        self.stored = {b: self.stored[b] for b in trusted}

    def _standardise(self, table: Float64) -> Float64:
        return np.asarray(np.clip((table - self.centre) / self.scale, -CLIP, CLIP))

    def _fold(self, block: int) -> int:
        return block * 4 // self.blocks

    def _distance(self, query: Float64, without_fold: int | None) -> float:
        seen = ~np.isnan(query)
        if not seen.any():
            return math.nan
        distances = sorted(
            math.sqrt(((query - stored)[seen] ** 2).sum() * query.size / seen.sum())
            for block, stored in self.stored.items()
            if without_fold is None or block in self._far_from(without_fold)
        )
        return float(np.mean(distances[:3]))

    def _far_from(self, fold: int) -> list[int]:
        """Stored blocks of other folds; those that share rows with the fold's windows only when there are no others."""
        own = [b for b in range(self.blocks) if self._fold(b) == fold]
        others = [b for b in self.stored if self._fold(b) != fold]
        far = [b for b in others if min(abs(b - o) for o in own) * self.hop >= self.length]
        return far or others

    def held_out(self) -> Float64:
        """Log ratio of every block of the history."""
        return np.array([self._log(self.held[b]) for b in range(self.blocks)])

    def read(self, rows: NDArray[np.float32]) -> Float64:
        """Log ratio of every block of other rows."""
        found = []
        for block in range(len(rows) // self.hop):
            query = self._standardise(features(rows, (block + 1) * self.hop - 1, self.length))
            found.append(self._log(self._distance(query, None)))
        return np.array(found)

    def read_with_online_memory(self, rows: NDArray[np.float32], gap: int, span: int, admission: float) -> Float64:
        """The same, with the rows' windows stored from `gap` to `gap + span` blocks after their end, if their log
        ratio to the history alone is below `admission`."""
        alone = self.read(rows)
        queries = [self._standardise(features(rows, (b + 1) * self.hop - 1, self.length)) for b in range(len(alone))]
        found = []
        for block, query in enumerate(queries):
            seen = ~np.isnan(query)
            if not seen.any():
                found.append(math.log(0.5))
                continue
            own = [
                kept(queries[b])
                for b in range(max(block - gap - span, 0), block - gap + 1)
                if alone[b] < admission and not np.isnan(queries[b]).all()
            ]
            distances = sorted(
                math.sqrt(((query - stored)[seen] ** 2).sum() * query.size / seen.sum())
                for stored in [*self.stored.values(), *own]
            )
            found.append(self._log(float(np.mean(distances[:3]))))
        return np.array(found)

    def _log(self, distance: float) -> float:
        return math.log(0.5) if math.isnan(distance) else math.log(distance / self.held_out_max + RATIO_FLOOR)
