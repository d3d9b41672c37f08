"""Memory of normal windows: how far a window's features are from the nearest stored ones.

Per length: the features of every channel, z-scored on the history; the mean distance to the 3 nearest stored windows,
divided by the held-out maximum: the largest such distance among the history's windows, each against the OTHER of 4
contiguous folds, windows that share rows left out (ADR 22). The ratio is near 1 at the boundary of normal, and its
square splits by channel. A history may hold anomalies: its farthest windows are neither stored nor count for the
maximum.

The online memory adds the stream's windows from `gap` to `gap + span` blocks after their end, if the history alone
finds them normal. So its contents depend on a bounded look-back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad.errors import ModelError
from stream_ad_models.memory.distances import RATIO_FLOOR, MemoryDistance, distance_of, standardised
from stream_ad_models.memory.features import FEATURE_SETS, FeatureSet
from stream_ad_models.memory.nearest import CHUNK, Found, Stored, measure
from stream_ad_models.memory.window_stats import check_lengths

Float32 = NDArray[np.float32]

__all__ = ["OnlineMemory", "WindowMemory", "distances_batch"]

_HISTORY_LENGTHS = 4  # a length needs so many times its steps of history
_ADMISSION = 0.5  # log ratio to the history alone below which a stream's window is stored
_FOLDS = 4
_FLOOR = 0.1  # smallest spread of a feature, in the units of the rows
_SMALLEST_MAX = 0.2  # of held-out distances: those of a history that only repeats itself are near 0
_CONTAMINATED = 0.03  # share of the history's windows, the farthest, that are not trusted as normal


class OnlineMemory:
    """The stream's newest windows, in a ring; each is compared with from `gap` to `gap + span` blocks after its end.

    Trap: at most `gap` blocks may be added at once, or they would find each other.
    """

    def __init__(self, lengths: int, features: int, gap: int, span: int) -> None:
        self.gap, self.size = gap, gap + span
        codes = torch.zeros((lengths, self.size, features), dtype=torch.int8)
        self.stored = Stored(codes, torch.zeros(lengths, self.size), torch.empty(lengths, self.size))
        self.clear()

    def clear(self) -> None:
        self.blocks = 0  # added so far
        self.stored.norms.fill_(torch.inf)

    def ages(self) -> NDArray[np.int64]:
        """How many blocks before the next one each place of the ring was filled, int64 [place]."""
        return np.asarray(1 + (self.blocks - 1 - np.arange(self.size)) % self.size, np.int64)

    def put(self, new: Stored) -> None:
        """Adds the next blocks' windows; norms of those that are not admitted are infinite."""
        first, count = self.blocks % self.size, new.norms.shape[1]
        until_end = min(count, self.size - first)
        for kept, each in ((getattr(self.stored, name), getattr(new, name)) for name in Stored.__slots__):
            kept[:, first : first + until_end] = each[:, :until_end]
            if until_end < count:
                kept[:, : count - until_end] = each[:, until_end:]
        self.blocks += count


class WindowMemory:
    """Stored windows of one feature set, all lengths; a window ends with each block of `hop` rows."""

    def __init__(
        self, feature_set: FeatureSet, lengths: Sequence[int], hop: int, table: Mapping[str, Float32], stored: Stored
    ) -> None:
        """table: centre, scale float32 [length, channel * size]; edge float32 [length], the held-out maximum.
        stored: windows of channel * size features, standardised by centre and scale."""
        if not lengths:
            raise ModelError("memory: expected at least one window length, found none")
        check_lengths(lengths, hop)
        self.feature_set, self.lengths, self.hop = feature_set, list(lengths), hop
        self.centre, self.scale, self.held_out_max = table["centre"], table["scale"], table["edge"]
        self.stored = stored

    @property
    def channels(self) -> int:
        return len(self.centre[0]) // self.feature_set.size

    @property
    def reach_blocks(self) -> int:
        """How many earlier blocks the longest window reads."""
        return self.lengths[-1] // self.hop - 1

    def online(self, gap: int, span: int) -> OnlineMemory:
        return OnlineMemory(len(self.lengths), self.centre.shape[1], gap, span)

    @classmethod
    def fit(
        cls, feature_set: FeatureSet, rows: Float32, hop: int, capacity: int
    ) -> tuple[WindowMemory, MemoryDistance]:
        """rows: float32 [n, channel], n >= 4 * hop. Stores up to `capacity` windows of each length for which the
        history is long enough; also returns the held-out distances of every block of the history."""
        enough = max(feature_set.lengths[0], len(rows) // _HISTORY_LENGTHS)
        usable = [length for length in feature_set.lengths if length <= enough]
        blocks = len(rows) // hop
        features = feature_set.of(rows[: blocks * hop], usable, hop, blocks)
        tables, distances = [], []
        for at, length in enumerate(usable):
            table, held_out = _fit_length(
                features.values[at], features.present[at], min(length // hop - 1, blocks - 1), capacity
            )
            tables.append(table)
            distances.append(held_out)
        most = max(len(table["windows"]) for table in tables)
        for table in tables:
            lacking = most - len(table["windows"])
            table["windows"] = np.pad(table["windows"], ((0, lacking), (0, 0)), constant_values=np.nan)
        table = {name: np.stack([t[name] for t in tables]) for name in ("centre", "scale", "edge")}
        windows = torch.from_numpy(np.stack([each["windows"] for each in tables]))
        memory = cls(feature_set, usable, hop, table, Stored.of(windows))
        return memory, MemoryDistance(
            np.concatenate([each.log_ratio for each in distances], axis=1),
            np.concatenate([each.shares for each in distances], axis=1),
        )

    def read(self, rows: Float32, new: int, online: OnlineMemory | None = None) -> MemoryDistance:
        """`distances_batch` of one series."""
        return distances_batch([self], rows[None], new, None if online is None else [online]).of(0)

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        return {
            f"{prefix}.lengths": np.array(self.lengths, np.int64),
            f"{prefix}.centre": self.centre,
            f"{prefix}.scale": self.scale,
            f"{prefix}.windows": self.stored.codes.numpy(),
            f"{prefix}.units": self.stored.units.masked_fill(self.stored.norms.isinf(), 0.0).numpy(),
            f"{prefix}.edge": self.held_out_max,
        }

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, NDArray[np.generic]], prefix: str, hop: int) -> WindowMemory:
        table = {key: np.asarray(arrays[f"{prefix}.{key}"], np.float32) for key in ("centre", "scale", "edge")}
        codes = np.asarray(arrays[f"{prefix}.windows"])
        if codes.dtype != np.int8:
            raise ValueError(f"{prefix}.windows: expected int8, found {codes.dtype}")
        units = torch.from_numpy(np.asarray(arrays[f"{prefix}.units"], np.float32))  # 0 where there is no window
        stored = Stored.coded(torch.from_numpy(np.ascontiguousarray(codes)), units, units > 0)
        return cls(FEATURE_SETS[name], np.asarray(arrays[f"{prefix}.lengths"]).tolist(), hop, table, stored)


def distances_batch(
    memories: Sequence[WindowMemory], rows: Float32, new: int, online: Sequence[OnlineMemory] | None = None
) -> MemoryDistance:
    """Distances of the last `new` blocks of rows [series, n, channel], each series to its memory; up to `reach_blocks`
    blocks before them are read.

    memories: of the same feature set, lengths and channels. online: the streams' earlier windows; new ones are added.
    """
    one, (series, steps, channels) = memories[0], rows.shape
    flat = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(steps, series * channels)
    features = one.feature_set.of(flat, one.lengths, one.hop, new)
    centre, scale = (np.stack([getattr(each, name) for each in memories]) for name in ("centre", "scale"))
    present = np.ascontiguousarray(features.present.reshape(-1, new, series, channels).transpose(2, 0, 1, 3))
    values = features.values.reshape(-1, new, series, centre.shape[2]).transpose(2, 0, 1, 3)
    query, mask = standardised(values, present, centre, scale)
    held_out_max = np.stack([each.held_out_max for each in memories])[:, :, None]
    seen: NDArray[np.bool_] = np.asarray(present.any(axis=3))
    step = max(CHUNK // series, 1)
    if online is not None:
        step = min(step, max(online[0].gap, 1))
    stored, parts = [each.stored for each in memories], []
    for at in range(0, new, step):
        asked = query[:, :, at : at + step]
        known = None if mask is None else mask[:, :, at : at + step]
        found = measure(asked, known, stored, one.feature_set.size)
        if online is not None:
            permitted = _permitted(online, asked.shape[2])
            own = measure(asked, known, [each.stored for each in online], one.feature_set.size, permitted)
            _admit(online, asked, found.distance / held_out_max, seen[:, :, at : at + step])
            found = found.nearer(own)
        parts.append(found)
    return distance_of(Found.joined(parts), present, held_out_max)


def _permitted(online: Sequence[OnlineMemory], new: int) -> Tensor:
    """Whether each of the next `new` blocks may be compared with each place: bool [series, block, place]."""
    ages = np.stack([each.ages() for each in online])[:, None] + np.arange(new)[:, None]
    return torch.from_numpy((ages >= online[0].gap) & (ages <= online[0].size))


def _admit(online: Sequence[OnlineMemory], query: Tensor, ratio: Float32, seen: NDArray[np.bool_]) -> None:
    """Adds new blocks. ratio (to the history alone) and seen: [series, length, block]."""
    admitted = torch.from_numpy((np.log(ratio + RATIO_FLOOR) < _ADMISSION) & seen)
    each = query.shape[:3]
    stored = Stored.of(query.flatten(0, 1))
    norms = stored.norms.view(each).masked_fill(~admitted, torch.inf)
    parts = (stored.codes.view(query.shape), stored.units.view(each), norms)
    for memory, codes, units, squares in zip(online, *parts, strict=True):
        memory.put(Stored(codes, units, squares))


def _fit_length(
    values: Float32, present: NDArray[np.bool_], first: int, capacity: int
) -> tuple[dict[str, Float32], MemoryDistance]:
    """The memory's arrays of this length, and the held-out distance of every block.

    values [block, channel, size], present [block, channel]; first: the first block whose window lies wholly inside.
    """
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
    flat, read = values.reshape(1, 1, len(seen), -1), present[None, None]
    query, mask = standardised(flat, read, centre[None, None], scale[None, None])
    stored_mask = torch.from_numpy(np.repeat(seen[kept], values.shape[2], axis=1).astype(np.float32))
    windows = query[0, 0, kept] * stored_mask
    found = _held_out(query, mask, kept, windows, blocks=first + 1, size=values.shape[2])
    order = candidates[np.argsort(found.distance[0, 0, candidates], kind="stable")]
    trusted = order[: len(order) - int(_CONTAMINATED * len(order))]
    held_out_max = np.array([max(float(found.distance[0, 0, trusted[-1]]), _SMALLEST_MAX)], np.float32)
    windows = windows[torch.from_numpy(np.isin(kept, trusted))]
    distances = distance_of(found, read, held_out_max[None, :, None]).of(0)
    return {"centre": centre, "scale": scale, "windows": windows.numpy(), "edge": held_out_max[0]}, distances


def _held_out(
    query: Tensor, mask: Tensor | None, kept: NDArray[np.intp], windows: Tensor, *, blocks: int, size: int
) -> Found:
    """Every block's window, `blocks` long, against the stored ones of other folds that share no row with its fold;
    against all of the other folds where none is so far away."""
    n = query.shape[2]
    fold = np.arange(n) * _FOLDS // n
    parts = []
    for number in range(_FOLDS):
        own = np.flatnonzero(fold == number)
        if len(own) == 0:
            continue
        others: NDArray[np.bool_] = np.asarray(fold[kept] != number)
        apart = others & ((kept <= own[0] - blocks) | (kept >= own[-1] + blocks))
        if apart.any():
            others = apart
        elif not others.any():
            others = np.ones(len(kept), np.bool_)  # a history of one fold
        stored = Stored.of(windows[torch.from_numpy(others)][None].contiguous())
        for at in range(0, len(own), CHUNK):
            here = slice(int(own[0]) + at, int(own[0]) + min(at + CHUNK, len(own)))
            known = None if mask is None else mask[:, :, here]
            parts.append(measure(query[:, :, here], known, [stored], size))
    return Found.joined(parts)
