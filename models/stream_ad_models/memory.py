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
from stream_ad_models.features import FEATURE_SETS, FeatureSet
from stream_ad_models.neighbours import CHUNK, Found, Stored, measure
from stream_ad_models.window_stats import check_lengths

Float32 = NDArray[np.float32]

__all__ = ["NEUTRAL", "Reading", "Recent", "WindowMemory", "read_alike"]

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
    """What a memory says of windows: log_ratio float32 [..., window, length]; shares float32
    [..., window, length, channel] >= 0, the squared ratio split by channel. Leading axis, if any: series."""

    log_ratio: Float32
    shares: Float32

    def __len__(self) -> int:
        return int(self.log_ratio.shape[-2])

    @classmethod
    def neutral(cls, windows: int, lengths: int, channels: int) -> Reading:
        return cls(np.full((windows, lengths), NEUTRAL, np.float32), np.zeros((windows, lengths, channels), np.float32))

    @classmethod
    def stacked(cls, parts: Sequence[Reading]) -> Reading:
        return cls(np.stack([part.log_ratio for part in parts]), np.stack([part.shares for part in parts]))

    def then(self, later: Reading) -> Reading:
        return Reading(
            np.concatenate([self.log_ratio, later.log_ratio], axis=-2),
            np.concatenate([self.shares, later.shares], axis=-3),
        )

    def last(self, series: int, number: int) -> Reading:
        """Of one series, a copy."""
        first = max(len(self) - number, 0)
        return Reading(self.log_ratio[series, first:].copy(), self.shares[series, first:].copy())


class Recent:
    """The stream's own last windows, in a ring. One counts from `gap` to `gap + span` blocks after its end.

    Trap: at most `gap` blocks may be put in at once, or they would meet each other.
    """

    def __init__(self, lengths: int, features: int, gap: int, span: int) -> None:
        self.gap, self.size = gap, gap + span
        self.blocks = 0  # put in so far
        self.stored = Stored(torch.zeros((lengths, self.size, features)), torch.full((lengths, self.size), torch.inf))

    def ages(self) -> NDArray[np.int64]:
        """How many blocks before the next one each place of the ring was put in, int64 [place]."""
        return np.asarray(1 + (self.blocks - 1 - np.arange(self.size)) % self.size, np.int64)

    def put(self, vectors: Float32, norms: Float32) -> None:
        """vectors: float32 [length, block, feature] as they would be stored; norms [length, block], infinite where a
        window is not admitted."""
        first, count = self.blocks % self.size, vectors.shape[1]
        kept, squares = self.stored.vectors.numpy(), self.stored.norms.numpy()
        until_end = min(count, self.size - first)
        kept[:, first : first + until_end] = vectors[:, :until_end]
        squares[:, first : first + until_end] = norms[:, :until_end]
        if until_end < count:
            kept[:, : count - until_end] = vectors[:, until_end:]
            squares[:, : count - until_end] = norms[:, until_end:]
        self.blocks += count


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
        return Recent(len(self.lengths), self.centre.shape[1], gap, span)

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

    def read(self, rows: Float32, new: int, recent: Recent | None = None) -> Reading:
        """`read_alike` of one series."""
        found = read_alike([self], rows[None], new, None if recent is None else [recent])
        return Reading(found.log_ratio[0], found.shares[0])

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


def read_alike(
    memories: Sequence[WindowMemory], rows: Float32, new: int, recents: Sequence[Recent] | None = None
) -> Reading:
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
    query, mask = _standardised(values, present, centre, scale)
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
    return _reading(Found.joined(parts), present, edge)


def _permitted(recents: Sequence[Recent], new: int) -> Tensor:
    """Whether each of the next `new` blocks may meet what is in each place: bool [series, block, place]."""
    ages = np.stack([recent.ages() for recent in recents])[:, None] + np.arange(new)[:, None]
    return torch.from_numpy((ages >= recents[0].gap) & (ages <= recents[0].size))


def _admit(recents: Sequence[Recent], query: Tensor, ratio: Float32, seen: NDArray[np.bool_]) -> None:
    """Puts new blocks in. ratio, to the history alone, and seen: [series, length, block]."""
    admitted = (np.log(ratio + _RATIO_FLOOR) < _ADMITTED) & seen
    norms = np.where(admitted, query.square().sum(dim=3).numpy(), np.float32(np.inf))
    for recent, vectors, squares in zip(recents, query.numpy(), norms, strict=True):
        recent.put(vectors, squares)


def _standardised(
    values: Float32, present: NDArray[np.bool_], centre: Float32, scale: Float32
) -> tuple[Tensor, Tensor | None]:
    """values [series, length, block, channel * size], present [series, length, block, channel] -> vectors, 0 where
    there is no reading, and their mask, float32 both; None where nothing is missing."""
    z = np.empty(values.shape, np.float32)
    np.subtract(values, centre[:, :, None], out=z)
    z /= scale[:, :, None]
    np.clip(z, -_CLIP, _CLIP, out=z)
    if present.all():
        return torch.from_numpy(z), None
    mask = np.repeat(present, values.shape[3] // present.shape[3], axis=3).astype(np.float32)
    z *= mask
    return torch.from_numpy(z), torch.from_numpy(mask)


def _reading(found: Found, present: NDArray[np.bool_], edge: Float32) -> Reading:
    """present: [series, length, block, channel]; edge: [series, length, 1]."""
    seen: NDArray[np.bool_] = np.asarray(present.any(axis=3))
    distance = found.distance
    log_ratio = np.where(seen, np.log(distance / edge + _RATIO_FLOOR), np.float32(NEUTRAL)).astype(np.float32)
    shares = found.shares(np.where(seen, distance / edge, np.float32(0.0)))
    return Reading(np.ascontiguousarray(log_ratio.swapaxes(1, 2)), np.ascontiguousarray(shares.swapaxes(1, 2)))


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
    flat, read = values.reshape(1, 1, len(seen), -1), present[None, None]
    query, mask = _standardised(flat, read, centre[None, None], scale[None, None])
    stored_mask = torch.from_numpy(np.repeat(seen[kept], values.shape[2], axis=1).astype(np.float32))
    windows = query[0, 0, kept] * stored_mask
    found = _held_out(query, mask, kept, windows, blocks=first + 1, size=values.shape[2])
    order = candidates[np.argsort(found.distance[0, 0, candidates], kind="stable")]
    trusted = order[: len(order) - int(_CONTAMINATED * len(order))]
    edge = np.array([max(float(found.distance[0, 0, trusted[-1]]), _SMALLEST_EDGE)], np.float32)
    windows = windows[torch.from_numpy(np.isin(kept, trusted))]
    reading = _reading(found, read, edge[None, :, None])
    reading = Reading(reading.log_ratio[0], reading.shares[0])
    return {"centre": centre, "scale": scale, "windows": windows.numpy(), "edge": edge[0]}, reading


def _held_out(
    query: Tensor, mask: Tensor | None, kept: NDArray[np.intp], windows: Tensor, *, blocks: int, size: int
) -> Found:
    """Every block's window against the stored ones of the other folds, `blocks` long, that share no row with its own
    fold; against all of the other folds where none is so far away."""
    n = query.shape[2]
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
        stored = Stored.of(windows[torch.from_numpy(others)][None].contiguous())
        for at in range(0, len(own), CHUNK):
            here = slice(int(own[0]) + at, int(own[0]) + min(at + CHUNK, len(own)))
            known = None if mask is None else mask[:, :, here]
            parts.append(measure(query[:, :, here], known, [stored], size))
    return Found.joined(parts)
