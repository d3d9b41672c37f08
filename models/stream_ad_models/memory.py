"""Memory of normal windows: how far a window's features are from the nearest ones seen before.

Per length: the features of every channel, z-scored on the history; the mean distance to the 3 nearest stored windows;
divided by the largest such distance among the history's own windows, each against the OTHER of 4 contiguous folds,
windows that share rows left out. The ratio is near 1 at the edge of normal, and its square splits by channel.
(Without the folds, windows next to a stored one hide how far normal reaches: VUS-PR .34, not .66.) A history may hold
anomalies: its farthest windows are neither stored nor set the edge.

The memory grows on line: a stream's own windows count as stored ones too while they are neither too new nor too old,
if the history alone found nothing in them. It forgets by the same rule, so it follows from a bounded look-back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad.errors import ModelError
from stream_ad_models.features import FEATURE_SETS, Features, FeatureSet
from stream_ad_models.neighbours import CHUNK, Found, Stored, measure
from stream_ad_models.window_stats import check_lengths

Float32 = NDArray[np.float32]

__all__ = ["NEUTRAL", "Reading", "Recent", "WindowMemory"]

FOLDS = 4
NEUTRAL = float(np.log(0.5))  # log ratio where nothing can be said: no reading, or a stream that just began
_CLIP = 100.0
_FLOOR = 0.1  # smallest spread of a feature, in the units of the rows
_SMALLEST_EDGE = 0.2  # a history that only repeats itself has no largest distance
_RATIO_FLOOR = (
    0.1  # how much nearer than the edge a window is says little (at .001: .757 | .624 instead of .760 | .634)
)
_HISTORY_LENGTHS = 4  # a length needs this many times its steps of history
_CONTAMINATED = 0.03  # share of the history's windows, the farthest, that are not taken for normal
_ADMITTED = 0.5  # log ratio to the history alone up to which a stream's window becomes a stored one


@dataclass(frozen=True, slots=True)
class Reading:
    """What a memory says of windows: log_ratio float32 [window, length]; shares float32 [window, length, channel] >= 0,
    the squared ratio split by channel."""

    log_ratio: Float32
    shares: Float32

    def __len__(self) -> int:
        return len(self.log_ratio)

    @classmethod
    def neutral(cls, windows: int, lengths: int, channels: int) -> Reading:
        return cls(np.full((windows, lengths), NEUTRAL, np.float32), np.zeros((windows, lengths, channels), np.float32))

    def then(self, later: Reading) -> Reading:
        return Reading(np.concatenate([self.log_ratio, later.log_ratio]), np.concatenate([self.shares, later.shares]))

    def last(self, number: int) -> Reading:
        first = max(len(self) - number, 0)
        return Reading(self.log_ratio[first:], self.shares[first:])


@dataclass(frozen=True, slots=True)
class Recent:
    """The stream's own last windows, oldest first: vectors float32 [length, block, feature] as they would be stored;
    admitted bool [length, block]. One counts from `gap` to `gap + span` blocks after its end."""

    vectors: Tensor
    admitted: Tensor
    gap: int
    span: int

    @classmethod
    def empty(cls, lengths: int, features: int, gap: int, span: int) -> Recent:
        return cls(torch.empty((lengths, 0, features)), torch.empty((lengths, 0), dtype=torch.bool), gap, span)

    def then(self, vectors: Tensor, admitted: Tensor) -> Recent:
        both = torch.cat([self.vectors, vectors], dim=1), torch.cat([self.admitted, admitted], dim=1)
        return Recent(*both, self.gap, self.span)

    def kept(self) -> Recent:
        """Without what no later window can meet."""
        first = max(self.vectors.shape[1] - self.gap - self.span, 0)
        return Recent(self.vectors[:, first:].clone(), self.admitted[:, first:].clone(), self.gap, self.span)

    def met_by(self, first: int, stop: int) -> tuple[slice, Tensor]:
        """Of the blocks numbered first to stop - 1 here: the range of blocks any of them may meet, and which of these
        each may: bool [block, range]."""
        low, high = max(first - self.gap - self.span, 0), max(stop - self.gap, 0)
        age = torch.arange(first, stop)[:, None] - torch.arange(low, high)
        return slice(low, high), (age >= self.gap) & (age <= self.gap + self.span)


class WindowMemory:
    """Stored windows of one family of features, all lengths, over rows of the same channels; windows end with each
    block of `hop` rows."""

    def __init__(self, family: FeatureSet, lengths: Sequence[int], hop: int, table: Mapping[str, Float32]) -> None:
        """table: centre, scale float32 [length, channel * size]; windows float32 [length, stored, channel * size],
        standardised by them, NaN where a length has fewer; edge float32 [length], the largest held-out distance."""
        if not lengths:
            raise ModelError("memory: expected at least one window length, found none")
        check_lengths(lengths, hop)
        self.family, self.lengths, self.hop = family, list(lengths), hop
        self.centre, self.scale, self.edge = table["centre"], table["scale"], table["edge"]
        self.stored = Stored.of(torch.from_numpy(np.ascontiguousarray(table["windows"], np.float32)))

    @property
    def channels(self) -> int:
        return len(self.centre[0]) // self.family.size

    @property
    def reach_blocks(self) -> int:
        """Blocks before a block that its longest window reads."""
        return self.lengths[-1] // self.hop - 1

    def recent(self, gap: int, span: int) -> Recent:
        return Recent.empty(len(self.lengths), self.centre.shape[1], gap, span)

    @classmethod
    def fit(cls, family: FeatureSet, rows: Float32, hop: int, capacity: int) -> tuple[WindowMemory, Reading]:
        """rows: float32 [n, channel], n >= 4 * hop. Stores up to `capacity` windows of each length for which the
        history is long enough; also returns the held-out reading of every block of the history."""
        shortest = family.lengths[0]
        usable = [length for length in family.lengths if length == shortest or len(rows) >= _HISTORY_LENGTHS * length]
        blocks = len(rows) // hop
        features = family.of(rows[: blocks * hop], usable, hop, blocks)
        tables, readings = [], []
        for at, length in enumerate(usable):
            table, reading = _fit_length(
                features.values[at], features.present[at], min(length // hop - 1, blocks - 1), capacity
            )
            tables.append(table)
            readings.append(reading)
        most = max(len(table["windows"]) for table in tables)
        for table in tables:
            lacking = most - len(table["windows"])
            table["windows"] = np.pad(table["windows"], ((0, lacking), (0, 0)), constant_values=np.nan)
        memory = cls(family, usable, hop, {name: np.stack([t[name] for t in tables]) for name in tables[0]})
        return memory, Reading(
            np.concatenate([each.log_ratio for each in readings], axis=1),
            np.concatenate([each.shares for each in readings], axis=1),
        )

    def read(self, rows: Float32, new: int, recent: Recent | None = None) -> tuple[Reading, Recent | None]:
        """The reading of the last `new` blocks of rows; up to `reach_blocks` before them are looked at. `recent`: the
        stream's windows before them, returned with the new ones behind."""
        features = self.family.of(rows, self.lengths, self.hop, new)
        query, mask = _standardised(features, self.centre, self.scale)
        found = self._measure(query, mask)
        if recent is not None:
            before = recent.vectors.shape[1]
            near = torch.from_numpy(found.distance / self.edge[:, None] + _RATIO_FLOOR).log() < _ADMITTED
            recent = recent.then(query * mask, near & (mask.sum(dim=2) > 0))
            found = found.nearer(self._measure_recent(query, mask, recent, before))
        reading = _reading(found, features.present, self.edge)
        return reading, recent.kept() if recent is not None else None

    def _measure(self, query: Tensor, mask: Tensor) -> Found:
        parts = [
            measure(query[:, at : at + CHUNK], mask[:, at : at + CHUNK], self.stored, self.family.size)
            for at in range(0, query.shape[1], CHUNK)
        ]
        return Found.joined(parts)

    def _measure_recent(self, query: Tensor, mask: Tensor, recent: Recent, before: int) -> Found:
        parts = []
        for at in range(0, query.shape[1], CHUNK):
            stop = min(at + CHUNK, query.shape[1])
            met, allowed = recent.met_by(before + at, before + stop)
            stored = Stored.of(recent.vectors[:, met])
            permitted = allowed & recent.admitted[:, None, met]
            parts.append(measure(query[:, at:stop], mask[:, at:stop], stored, self.family.size, permitted))
        return Found.joined(parts)

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        return {
            f"{prefix}.lengths": np.array(self.lengths, np.int64),
            f"{prefix}.centre": self.centre,
            f"{prefix}.scale": self.scale,
            f"{prefix}.windows": self.stored.vectors.numpy(),
            f"{prefix}.edge": self.edge,
        }

    @classmethod
    def from_arrays(cls, family: str, arrays: Mapping[str, NDArray[np.generic]], prefix: str, hop: int) -> WindowMemory:
        table = {
            name: np.asarray(arrays[f"{prefix}.{name}"], np.float32) for name in ("centre", "scale", "windows", "edge")
        }
        return cls(FEATURE_SETS[family], np.asarray(arrays[f"{prefix}.lengths"]).tolist(), hop, table)


def _standardised(features: Features, centre: Float32, scale: Float32) -> tuple[Tensor, Tensor]:
    """Vectors and their masks, both float32 [length, block, channel * size]; 0 where there is no reading."""
    flat = features.values.reshape(*features.values.shape[:2], -1)
    z = np.clip((flat - centre[:, None]) / scale[:, None], -_CLIP, _CLIP).astype(np.float32)
    mask = np.repeat(features.present, features.values.shape[3], axis=2).astype(np.float32)
    return torch.from_numpy(z * mask), torch.from_numpy(mask)


def _reading(found: Found, present: NDArray[np.bool_], edge: Float32) -> Reading:
    seen: NDArray[np.bool_] = np.asarray(present.any(axis=2))
    ratio = np.log(found.distance / edge[:, None] + _RATIO_FLOOR)
    log_ratio = np.where(seen, ratio, NEUTRAL).astype(np.float32)
    shares = np.where(seen[..., None], found.shares / np.square(edge)[:, None, None], 0.0).astype(np.float32)
    return Reading(np.ascontiguousarray(log_ratio.T), np.ascontiguousarray(shares.transpose(1, 0, 2)))


def _fit_length(
    values: Float32, present: NDArray[np.bool_], first: int, capacity: int
) -> tuple[dict[str, Float32], Reading]:
    """values [block, channel, size], present [block, channel]; `first`: the first block whose window lies wholly in
    the history."""
    full = np.arange(len(present)) >= first
    seen = present & full[:, None]
    if not seen.any():
        seen = present
    known = np.where(seen[..., None], values, np.nan).reshape(len(seen), -1)
    never = np.isnan(known).all(axis=0)
    known[0, never] = 0.0
    centre = np.nanmean(known, axis=0).astype(np.float32)
    scale = np.maximum(np.nanstd(known, axis=0), _FLOOR).astype(np.float32)
    candidates = np.flatnonzero(seen.any(axis=1))
    if len(candidates) == 0:
        candidates = np.array([len(seen) - 1])
    kept = candidates[np.linspace(0, len(candidates) - 1, min(capacity, len(candidates))).astype(int)]
    query, mask = _standardised(Features(values[None], present[None]), centre[None], scale[None])
    stored_mask = torch.from_numpy(np.repeat(seen[kept], values.shape[2], axis=1).astype(np.float32))
    windows = query[0, kept] * stored_mask
    found = _held_out(query, mask, kept, windows, blocks=first + 1, size=values.shape[2])
    order = candidates[np.argsort(found.distance[0, candidates], kind="stable")]
    trusted = order[: len(order) - int(_CONTAMINATED * len(order))]
    edge = np.array([max(float(found.distance[0, trusted[-1]]), _SMALLEST_EDGE)], np.float32)
    windows = windows[torch.from_numpy(np.isin(kept, trusted))]
    reading = _reading(found, present[None], edge)
    return {"centre": centre, "scale": scale, "windows": windows.numpy(), "edge": edge[0]}, reading


def _held_out(query: Tensor, mask: Tensor, kept: NDArray[np.intp], windows: Tensor, *, blocks: int, size: int) -> Found:
    """Every block's window against the stored ones of the other folds, `blocks` long, that share no row with its own
    fold; against all of the other folds where none is so far away."""
    n = query.shape[1]
    fold = np.arange(n) * FOLDS // n
    parts = []
    for number in range(FOLDS):
        own = np.flatnonzero(fold == number)
        if len(own) == 0:
            continue
        others: NDArray[np.bool_] = np.asarray(fold[kept] != number)
        apart = others & ((kept <= own[0] - blocks) | (kept >= own[-1] + blocks))
        if apart.any():
            others = apart
        elif not others.any():
            others = np.ones(len(kept), np.bool_)  # a history of one fold
        stored = Stored.of(windows[torch.from_numpy(others)][None])
        for at in range(0, len(own), CHUNK):
            here = slice(int(own[0]) + at, int(own[0]) + min(at + CHUNK, len(own)))
            parts.append(measure(query[:, here], mask[:, here], stored, size))
    return Found.joined(parts)
