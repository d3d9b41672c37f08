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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad.errors import ModelError
from stream_ad_models.memory.distances import RATIO_FLOOR, MemoryDistance, distance_of, standardised
from stream_ad_models.memory.features import FEATURE_SETS, FeatureSet
from stream_ad_models.memory.fit import fit_length
from stream_ad_models.memory.nearest import CHUNK, Found, Stored, measure
from stream_ad_models.memory.window_stats import check_lengths

Float32 = NDArray[np.float32]

__all__ = ["Recent", "WindowMemory", "distances_batch"]

_HISTORY_LENGTHS = 4  # a length needs this many times its steps of history
_ADMITTED = 0.5  # log ratio to the history alone up to which a stream's window becomes a stored one


class Recent:
    """The stream's own last windows, in a ring. One counts from `gap` to `gap + span` blocks after its end.

    Trap: at most `gap` blocks may be put in at once, or they would meet each other.
    """

    def __init__(self, lengths: int, features: int, gap: int, span: int) -> None:
        self.gap, self.size = gap, gap + span
        codes = torch.zeros((lengths, self.size, features), dtype=torch.int8)
        self.stored = Stored(codes, torch.zeros(lengths, self.size), torch.empty(lengths, self.size))
        self.clear()

    def clear(self) -> None:
        self.blocks = 0  # put in so far
        self.stored.norms.fill_(torch.inf)

    def ages(self) -> NDArray[np.int64]:
        """How many blocks before the next one each place of the ring was put in, int64 [place]."""
        return np.asarray(1 + (self.blocks - 1 - np.arange(self.size)) % self.size, np.int64)

    def put(self, new: Stored) -> None:
        """The next blocks' windows; those that are not admitted have infinite norms."""
        first, count = self.blocks % self.size, new.norms.shape[1]
        until_end = min(count, self.size - first)
        for kept, each in ((getattr(self.stored, name), getattr(new, name)) for name in Stored.__slots__):
            kept[:, first : first + until_end] = each[:, :until_end]
            if until_end < count:
                kept[:, : count - until_end] = each[:, until_end:]
        self.blocks += count


class WindowMemory:
    """Stored windows of one family of features, all lengths, over rows of the same channels; windows end with each
    block of `hop` rows."""

    def __init__(
        self, family: FeatureSet, lengths: Sequence[int], hop: int, table: Mapping[str, Float32], stored: Stored
    ) -> None:
        """table: centre, scale float32 [length, channel * size]; edge float32 [length], the largest held-out distance.
        stored: windows of channel * size features, standardised by centre and scale."""
        if not lengths:
            raise ModelError("memory: expected at least one window length, found none")
        check_lengths(lengths, hop)
        self.family, self.lengths, self.hop = family, list(lengths), hop
        self.centre, self.scale, self.edge = table["centre"], table["scale"], table["edge"]
        self.stored = stored

    @property
    def channels(self) -> int:
        return len(self.centre[0]) // self.family.size

    @property
    def reach_blocks(self) -> int:
        """Blocks before a block that its longest window reads."""
        return self.lengths[-1] // self.hop - 1

    def recent(self, gap: int, span: int) -> Recent:
        return Recent(len(self.lengths), self.centre.shape[1], gap, span)

    @classmethod
    def fit(cls, family: FeatureSet, rows: Float32, hop: int, capacity: int) -> tuple[WindowMemory, MemoryDistance]:
        """rows: float32 [n, channel], n >= 4 * hop. Stores up to `capacity` windows of each length for which the
        history is long enough; also returns the held-out reading of every block of the history."""
        shortest = family.lengths[0]
        usable = [length for length in family.lengths if length == shortest or len(rows) >= _HISTORY_LENGTHS * length]
        blocks = len(rows) // hop
        features = family.of(rows[: blocks * hop], usable, hop, blocks)
        tables, readings = [], []
        for at, length in enumerate(usable):
            table, reading = fit_length(
                features.values[at], features.present[at], min(length // hop - 1, blocks - 1), capacity
            )
            tables.append(table)
            readings.append(reading)
        most = max(len(table["windows"]) for table in tables)
        for table in tables:
            lacking = most - len(table["windows"])
            table["windows"] = np.pad(table["windows"], ((0, lacking), (0, 0)), constant_values=np.nan)
        table = {name: np.stack([t[name] for t in tables]) for name in ("centre", "scale", "edge")}
        windows = torch.from_numpy(np.stack([each["windows"] for each in tables]))
        memory = cls(family, usable, hop, table, Stored.of(windows))
        return memory, MemoryDistance(
            np.concatenate([each.log_ratio for each in readings], axis=1),
            np.concatenate([each.shares for each in readings], axis=1),
        )

    def read(self, rows: Float32, new: int, recent: Recent | None = None) -> MemoryDistance:
        """`distances_batch` of one series."""
        found = distances_batch([self], rows[None], new, None if recent is None else [recent])
        return MemoryDistance(found.log_ratio[0], found.shares[0])

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        return {
            f"{prefix}.lengths": np.array(self.lengths, np.int64),
            f"{prefix}.centre": self.centre,
            f"{prefix}.scale": self.scale,
            f"{prefix}.windows": self.stored.codes.numpy(),
            f"{prefix}.units": self.stored.units.masked_fill(self.stored.norms.isinf(), 0.0).numpy(),
            f"{prefix}.edge": self.edge,
        }

    @classmethod
    def from_arrays(cls, family: str, arrays: Mapping[str, NDArray[np.generic]], prefix: str, hop: int) -> WindowMemory:
        table = {name: np.asarray(arrays[f"{prefix}.{name}"], np.float32) for name in ("centre", "scale", "edge")}
        codes = np.asarray(arrays[f"{prefix}.windows"])
        if codes.dtype != np.int8:
            raise ValueError(f"{prefix}.windows: expected int8, found {codes.dtype}")
        units = torch.from_numpy(np.asarray(arrays[f"{prefix}.units"], np.float32))  # 0 where there is no window
        stored = Stored.coded(torch.from_numpy(np.ascontiguousarray(codes)), units, units > 0)
        return cls(FEATURE_SETS[family], np.asarray(arrays[f"{prefix}.lengths"]).tolist(), hop, table, stored)


def distances_batch(
    memories: Sequence[WindowMemory], rows: Float32, new: int, recents: Sequence[Recent] | None = None
) -> MemoryDistance:
    """The reading of the last `new` blocks of rows [series, n, channel], each series' against its own memory; up to
    `reach_blocks` before them are looked at.

    memories: of the same family, lengths and channels. recents: the streams' windows before; the new ones are put in.
    """
    one, (series, steps, channels) = memories[0], rows.shape
    flat = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(steps, series * channels)
    features = one.family.of(flat, one.lengths, one.hop, new)
    centre, scale = (np.stack([getattr(each, name) for each in memories]) for name in ("centre", "scale"))
    present = np.ascontiguousarray(features.present.reshape(-1, new, series, channels).transpose(2, 0, 1, 3))
    values = features.values.reshape(-1, new, series, centre.shape[2]).transpose(2, 0, 1, 3)
    query, mask = standardised(values, present, centre, scale)
    edge = np.stack([each.edge for each in memories])[:, :, None]
    seen: NDArray[np.bool_] = np.asarray(present.any(axis=3))
    step = max(CHUNK // series, 1)
    if recents is not None:
        step = min(step, max(recents[0].gap, 1))
    stored, parts = [each.stored for each in memories], []
    for at in range(0, new, step):
        asked = query[:, :, at : at + step]
        known = None if mask is None else mask[:, :, at : at + step]
        found = measure(asked, known, stored, one.family.size)
        if recents is not None:
            permitted = _permitted(recents, asked.shape[2])
            own = measure(asked, known, [each.stored for each in recents], one.family.size, permitted)
            _admit(recents, asked, found.distance / edge, seen[:, :, at : at + step])
            found = found.nearer(own)
        parts.append(found)
    return distance_of(Found.joined(parts), present, edge)


def _permitted(recents: Sequence[Recent], new: int) -> Tensor:
    """Whether each of the next `new` blocks may meet what is in each place: bool [series, block, place]."""
    ages = np.stack([recent.ages() for recent in recents])[:, None] + np.arange(new)[:, None]
    return torch.from_numpy((ages >= recents[0].gap) & (ages <= recents[0].size))


def _admit(recents: Sequence[Recent], query: Tensor, ratio: Float32, seen: NDArray[np.bool_]) -> None:
    """Puts new blocks in. ratio, to the history alone, and seen: [series, length, block]."""
    admitted = torch.from_numpy((np.log(ratio + RATIO_FLOOR) < _ADMITTED) & seen)
    each = query.shape[:3]
    stored = Stored.of(query.flatten(0, 1))
    norms = stored.norms.view(each).masked_fill(~admitted, torch.inf)
    for recent, codes, units, squares in zip(
        recents, stored.codes.view(query.shape), stored.units.view(each), norms, strict=True
    ):
        recent.put(Stored(codes, units, squares))
