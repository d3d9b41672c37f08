"""Memory of normal windows: how far a window's statistics are from the nearest ones seen in the history.

Per length: the [std, range, max, min, mean] of every channel, z-scored on the history; the mean distance to the 3
nearest stored windows; divided by the largest such distance among the history's own windows, each against the OTHER
of 4 contiguous folds, windows that share rows left out. The ratio is near 1 at the edge of normal, and its square
splits by channel. (Without the folds, windows next to a stored one hide how far normal reaches: VUS-PR .34, not .66.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from stream_ad.errors import ModelError
from stream_ad_models.window_stats import FEATURES, Blocks, WindowStats, check_lengths, window_stats

Float32 = NDArray[np.float32]

__all__ = ["Level", "Reading", "WindowMemory"]

NEIGHBOURS = 3
FOLDS = 4
NEUTRAL = float(np.log(0.5))  # log ratio where nothing can be said: no reading, or a stream that just began
_CLIP = 100.0
_FLOOR = 0.1  # smallest spread of a feature, in the units of the rows
_SMALLEST_EDGE = 0.2  # a history that only repeats itself has no largest distance
_RATIO_FLOOR = (
    0.1  # how much nearer than the edge a window is says little (at .001: .757 | .624 instead of .760 | .634)
)
_HISTORY_LENGTHS = 4  # a length needs this many times its steps of history
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Reading:
    """What a memory says of windows: log_ratio float32 [window, level]; shares float32 [window, level, channel] >= 0,
    the squared ratio split by channel."""

    log_ratio: Float32
    shares: Float32

    def __len__(self) -> int:
        return len(self.log_ratio)

    @classmethod
    def neutral(cls, windows: int, levels: int, channels: int) -> Reading:
        return cls(np.full((windows, levels), NEUTRAL, np.float32), np.zeros((windows, levels, channels), np.float32))

    def then(self, later: Reading) -> Reading:
        return Reading(np.concatenate([self.log_ratio, later.log_ratio]), np.concatenate([self.shares, later.shares]))

    def last(self, number: int) -> Reading:
        first = max(len(self) - number, 0)
        return Reading(self.log_ratio[first:], self.shares[first:])


@dataclass(frozen=True, slots=True)
class Level:
    """Stored windows of one length in steps. centre, scale: float32 [channel * FEATURES]; windows: float32
    [stored, channel * FEATURES], standardised by them; edge: the largest held-out distance."""

    length: int
    centre: Float32
    scale: Float32
    windows: Float32
    edge: float
    _norms: Float32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_norms", np.square(self.windows).sum(axis=1))

    def distances(self, stats: WindowStats) -> tuple[Float32, Float32]:
        """Mean distance to the nearest windows [n], NaN where no channel is present, and its square by channel
        [n, channel]."""
        parts = [
            self._distances(stats.values[at : at + _CHUNK], stats.present[at : at + _CHUNK])
            for at in range(0, len(stats.present), _CHUNK)
        ]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def standardise(self, values: Float32) -> Float32:
        """values: [n, channel, FEATURES] -> [n, channel * FEATURES]."""
        flat = (values.reshape(len(values), -1) - self.centre) / self.scale
        return np.asarray(np.clip(flat, -_CLIP, _CLIP), np.float32)

    def _distances(self, values: Float32, present: NDArray[np.bool_]) -> tuple[Float32, Float32]:
        mask = np.repeat(present, FEATURES, axis=1).astype(np.float32)
        query = self.standardise(values) * mask
        nearest = self.windows[self._nearest(query, mask)]  # [n, k, channel * FEATURES]
        # Once more, by differences: the expanded square loses small distances to rounding, and so depends on the batch.
        apart = np.square(query[:, None, :] - nearest) * mask[:, None, :]
        by_channel = apart.reshape(*nearest.shape[:2], -1, FEATURES).sum(axis=3)
        whole = mask.shape[1] / np.maximum(mask.sum(axis=1), 1.0)
        distance = np.sqrt(by_channel.sum(axis=2) * whole[:, None]).mean(axis=1)
        squared = np.square(distance)[:, None]
        split = by_channel.mean(axis=1)
        split *= squared / np.maximum(split.sum(axis=1, keepdims=True), 1e-12)
        seen = present.any(axis=1)
        return np.where(seen, distance, np.nan).astype(np.float32), split.astype(np.float32)

    def _nearest(self, query: Float32, mask: Float32) -> NDArray[np.int64]:
        """Numbers of the nearest stored windows [n, k], missing features left out of the distance."""
        windows = torch.from_numpy(self.windows)
        norms = torch.from_numpy(self._norms) if mask.all() else torch.from_numpy(mask) @ windows.square().T
        norms = norms.expand(len(query), len(windows))
        apart = torch.addmm(norms, torch.from_numpy(query), windows.T, alpha=-2.0)
        return np.asarray(apart.topk(min(NEIGHBOURS, len(windows)), dim=1, largest=False).indices.numpy())


class WindowMemory:
    """Memories of all lengths over rows of the same channels; windows end with each block of `hop` rows."""

    def __init__(self, levels: Sequence[Level], hop: int) -> None:
        if not levels:
            raise ModelError("memory: expected at least one window length, found none")
        check_lengths([level.length for level in levels], hop)
        self.levels = tuple(levels)
        self.hop = hop

    @property
    def lengths(self) -> list[int]:
        return [level.length for level in self.levels]

    @property
    def channels(self) -> int:
        return len(self.levels[0].centre) // FEATURES

    @property
    def reach_blocks(self) -> int:
        """Blocks before a block that its longest window reads."""
        return self.lengths[-1] // self.hop - 1

    @classmethod
    def fit(cls, rows: Float32, lengths: Sequence[int], hop: int, capacity: int) -> tuple[WindowMemory, Reading]:
        """rows: float32 [n, channel], n >= 4 * hop. Stores up to `capacity` windows of each length for which the
        history is long enough; also returns the held-out reading of every block of the history."""
        check_lengths(lengths, hop)
        blocks = Blocks.of(rows[: len(rows) // hop * hop], hop)
        usable = [length for length in lengths if length == lengths[0] or len(rows) >= _HISTORY_LENGTHS * length]
        stats = window_stats(blocks, usable, hop)
        pairs = [_fit_level(length, stats[length], length // hop - 1, capacity) for length in usable]
        memory = cls([level for level, _ in pairs], hop)
        return memory, Reading(
            np.stack([held.log_ratio[:, 0] for _, held in pairs], axis=1),
            np.concatenate([held.shares for _, held in pairs], axis=1),
        )

    def read(self, blocks: Blocks, new: int) -> Reading:
        """The reading of the last `new` blocks; up to `reach_blocks` before them are looked at."""
        stats = window_stats(blocks, self.lengths, self.hop)
        ratios, shares = [], []
        for level in self.levels:
            own = stats[level.length]
            recent = WindowStats(own.values[len(blocks) - new :], own.present[len(blocks) - new :])
            distance, split = level.distances(recent)
            ratios.append(_log_ratio(distance, level.edge))
            shares.append(split / level.edge**2)
        return Reading(np.stack(ratios, axis=1), np.stack(shares, axis=1))

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        out: dict[str, NDArray[np.generic]] = {f"{prefix}.lengths": np.array(self.lengths, np.int64)}
        for level in self.levels:
            at = f"{prefix}.{level.length}"
            out |= {f"{at}.centre": level.centre, f"{at}.scale": level.scale, f"{at}.windows": level.windows}
            out[f"{at}.edge"] = np.array([level.edge], np.float64)
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str, hop: int) -> WindowMemory:
        levels = []
        for length in np.asarray(arrays[f"{prefix}.lengths"]).tolist():
            at = f"{prefix}.{length}"
            centre, scale, windows = (
                np.asarray(arrays[f"{at}.{name}"], np.float32) for name in ("centre", "scale", "windows")
            )
            edge = float(np.asarray(arrays[f"{at}.edge"], np.float64)[0])
            levels.append(Level(length, centre, scale, windows, edge))
        return cls(levels, hop)


def _log_ratio(distance: Float32, edge: float) -> Float32:
    ratio = np.log(distance / edge + _RATIO_FLOOR)
    return np.where(np.isnan(distance), NEUTRAL, ratio).astype(np.float32)


def _fit_level(length: int, stats: WindowStats, first: int, capacity: int) -> tuple[Level, Reading]:
    """`first`: the first block whose window lies wholly in the history."""
    full = np.arange(len(stats.present)) >= first
    seen = stats.present & full[:, None]
    if not seen.any():
        seen = stats.present
    values = np.where(seen[..., None], stats.values, np.nan).reshape(len(seen), -1)
    never = np.isnan(values).all(axis=0)
    values[0, never] = 0.0
    centre = np.nanmean(values, axis=0).astype(np.float32)
    scale = np.maximum(np.nanstd(values, axis=0), _FLOOR).astype(np.float32)
    level = Level(length, centre, scale, np.empty((0, len(centre)), np.float32), 1.0)
    candidates = np.flatnonzero(seen.any(axis=1))
    if len(candidates) == 0:
        candidates = np.array([len(seen) - 1])
    kept = candidates[np.linspace(0, len(candidates) - 1, min(capacity, len(candidates))).astype(int)]
    mask = np.repeat(seen[kept], FEATURES, axis=1)
    windows = level.standardise(stats.values[kept]) * mask
    distance, split = _held_out(level, stats, kept, windows, first + 1)
    within = distance[candidates]
    edge = max(float(np.nanmax(within)) if np.isfinite(within).any() else 0.0, _SMALLEST_EDGE)
    reading = Reading(_log_ratio(distance, edge)[:, None], (split / edge**2)[:, None])
    return Level(length, centre, scale, windows, edge), reading


def _held_out(
    level: Level, stats: WindowStats, kept: NDArray[np.intp], windows: Float32, blocks: int
) -> tuple[Float32, Float32]:
    """Distances of every block's window to the stored ones of the other folds, `blocks` long, that share no row with
    its own fold; to all of the other folds where none is so far away."""
    n = len(stats.present)
    fold = np.arange(n) * FOLDS // n
    distance = np.full(n, np.nan, np.float32)
    split = np.zeros(stats.present.shape, np.float32)
    for number in range(FOLDS):
        own = np.flatnonzero(fold == number)
        if len(own) == 0:
            continue
        others = fold[kept] != number
        apart = others & ((kept <= own[0] - blocks) | (kept >= own[-1] + blocks))
        others = apart if apart.any() else others
        if others.any():
            part = WindowStats(stats.values[own], stats.present[own])
            far = Level(level.length, level.centre, level.scale, windows[others], edge=1.0)
            distance[own], split[own] = far.distances(part)
    return distance, split
