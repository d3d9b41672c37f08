"""Nearest stored vectors, missing features left out of the distance, for several series and lengths in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Float32 = NDArray[np.float32]

__all__ = ["CHUNK", "NEIGHBOURS", "Found", "Stored", "measure"]

NEIGHBOURS = 3
_STEPS = 127  # of 8 bits, either way
_SMALLEST = 1e-6
CHUNK = 256  # queries per call, over all series: bounds the memory to some 10 MB
_CHUNK_VALUES = 2**20  # stored values compared in one step


@dataclass(frozen=True, slots=True)
class Stored:
    """Vectors quantised to 8 bits: a quarter of the memory, and less to read for each query.

    codes: int8 [length, stored, feature], contiguous; units: float32 [length, stored], value of one step of the codes;
    norms: float32 [length, stored], squared, infinite where no vector is stored.
    """

    codes: Tensor
    units: Tensor
    norms: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Stored:
        """vectors: float32 [length, stored, feature], all NaN where there is none."""
        valid = ~vectors.isnan().any(dim=2)
        values = vectors.nan_to_num(nan=0.0)
        units = values.abs().amax(dim=2).clamp_(min=_SMALLEST) / _STEPS
        codes = values.div_(units[..., None]).round_().to(torch.int8)
        return cls.coded(codes, units, valid)

    @classmethod
    def coded(cls, codes: Tensor, units: Tensor, valid: Tensor) -> Stored:
        """valid: bool [length, stored], False where no vector is stored."""
        norms = codes.float().square_().sum(dim=2).mul_(units).mul_(units)
        return cls(codes, units, norms.masked_fill_(~valid, torch.inf))

    @classmethod
    def stacked(cls, each: Sequence[Stored]) -> Stored:
        """Several series of the same sizes: [series, length, stored, ...]."""
        return cls(*(torch.stack([getattr(one, name) for one in each]) for name in cls.__slots__))

    def vectors(self) -> Tensor:
        """float32, of the shape of the codes."""
        return self.codes.float().mul_(self.units[..., None])


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest stored vectors of queries.

    squares: float32 [series, length, query, 3] squared distances, infinite where there are fewer; split: float32
    [series, length, query, 3, channel], the same by channel.
    """

    squares: Tensor
    split: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """Concatenated along the queries."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([part.squares for part in parts], dim=2), torch.cat([part.split for part in parts], dim=2))

    def nearer(self, other: Found) -> Found:
        """The nearest of both, query by query."""
        squares = torch.cat([self.squares, other.squares], dim=3)
        best = squares.topk(NEIGHBOURS, dim=3, largest=False)
        split = torch.cat([self.split, other.split], dim=3)
        at = best.indices[..., None].expand(*best.indices.shape, split.shape[4])
        return Found(best.values, split.gather(3, at))

    @property
    def distance(self) -> Float32:
        """Mean distance [series, length, query] to the finite ones."""
        finite = self.squares.isfinite()
        if finite.all():
            return np.asarray(self.squares.sqrt().mean(dim=3).numpy())
        total = self.squares.where(finite, torch.zeros(())).sqrt().sum(dim=3)
        return np.asarray((total / finite.sum(dim=3).clamp(min=1)).numpy())

    def shares(self, distance: Float32) -> Float32:
        """The squared mean distance split by channel [series, length, query, channel]."""
        split = self.split.sum(dim=3).numpy()
        whole = np.maximum(split.sum(axis=3, keepdims=True), np.float32(1e-12))
        return np.asarray(split * (np.square(distance)[..., None] / whole))


def measure(
    query: Tensor, mask: Tensor | None, stored: Sequence[Stored], size: int, permitted: Tensor | None = None
) -> Found:
    """query, mask: float32 [series, length, query, feature], 0 where missing (mask None: nothing is); stored: one per
    series; size: features per channel, adjacent; permitted: bool [series, query, stored], None = all."""
    near, missing = [], []
    for part in _chunks(stored):
        allowed = None if permitted is None else permitted[part]
        found = _nearest(query[part], None if mask is None else mask[part], Stored.stacked(stored[part]), allowed)
        near.append(found[0])
        missing.append(found[1])
    whole = (near[0], missing[0]) if len(near) == 1 else (torch.cat(near), torch.cat(missing))
    return _found(query, mask, *whole, size)


def _chunks(stored: Sequence[Stored]) -> Iterator[slice]:
    """Adjacent series with equally many vectors, few enough for these to fit a core's cache as floats."""
    first = 0
    for shape, group in groupby(stored, key=lambda each: each.codes.shape):
        stop, most = first + len(list(group)), max(_CHUNK_VALUES // max(shape.numel(), 1), 1)
        for at in range(first, stop, most):
            yield slice(at, min(at + most, stop))
        first = stop


def _nearest(query: Tensor, mask: Tensor | None, stored: Stored, permitted: Tensor | None) -> tuple[Tensor, Tensor]:
    """stored: of several series [series, length, stored, ...] -> the nearest [series, length, query, 3, feature], and
    True [series, length, query, 3] where there are fewer."""
    codes, units = stored.codes, stored.units
    series, lengths, count, features = codes.shape
    norms = stored.norms[:, :, None] if mask is None else _masked_norms(mask, stored)
    products = query @ codes.float().transpose(2, 3)
    apart = torch.addcmul(norms, products, units[:, :, None], value=-2.0)
    if permitted is not None:
        apart.masked_fill_(~permitted[:, None], torch.inf)
    if count < NEIGHBOURS:
        apart = functional.pad(apart, (0, NEIGHBOURS - count), value=torch.inf)
    best = apart.topk(NEIGHBOURS, dim=3, largest=False)  # NaN counts as the largest
    missing = ~best.values.isfinite()
    if not count:
        return torch.zeros((*missing.shape, features)), missing
    before = torch.arange(0, series * lengths * count, count).view(series, lengths, 1, 1)
    at = best.indices.clamp_(max=count - 1).add_(before).view(-1)
    near = codes.view(-1, features).index_select(0, at) * units.view(-1).index_select(0, at)[:, None]
    return near.view(*missing.shape, features), missing


def _found(query: Tensor, mask: Tensor | None, near: Tensor, missing: Tensor, size: int) -> Found:
    """Distances again, by differences: the expanded square loses small ones to rounding, so it depends on the batch.

    near: [series, length, query, 3, feature], overwritten; missing: [series, length, query, 3].
    """
    near.sub_(query[:, :, :, None])
    if mask is not None:
        near.mul_(mask[:, :, :, None])
    split = near.square_().view(*near.shape[:4], -1, size).sum(dim=5)
    squares = split.sum(dim=4)
    if mask is not None:
        squares *= (mask.shape[3] / mask.sum(dim=3).clamp(min=1.0))[..., None]
    if missing.any():
        squares.masked_fill_(missing, torch.inf)
        split.masked_fill_(missing[..., None], 0.0)
    return Found(squares, split)


def _masked_norms(mask: Tensor, stored: Stored) -> Tensor:
    """Squared norms of the stored vectors over the features that the query has [series, length, query, stored]."""
    squares = mask @ stored.vectors().square_().transpose(2, 3)
    return squares.masked_fill_(stored.norms.isinf()[:, :, None], torch.inf)
