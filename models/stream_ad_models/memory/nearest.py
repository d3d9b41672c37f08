"""The nearest of stored vectors, missing features left out of the distance, for several series and lengths at once."""

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
CHUNK = 256  # queries a call, over all series: bounds the memory to some 10 MB
_LOT = 2**20  # numbers stored that are looked at together


@dataclass(frozen=True, slots=True)
class Stored:
    """Vectors in 8 bits: a quarter of the memory, and less to read for each query.

    codes: int8 [length, stored, feature], contiguous; units float32 [length, stored], what one step of a vector's codes
    is worth; norms float32 [length, stored], squared, infinite where there is no vector.
    """

    codes: Tensor
    units: Tensor
    norms: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Stored:
        """vectors: float32 [length, stored, feature], of NaN alone where there is none."""
        there = ~vectors.isnan().any(dim=2)
        values = vectors.nan_to_num(nan=0.0)
        units = values.abs().amax(dim=2).clamp_(min=_SMALLEST) / _STEPS
        codes = values.div_(units[..., None]).round_().to(torch.int8)
        return cls.coded(codes, units, there)

    @classmethod
    def coded(cls, codes: Tensor, units: Tensor, there: Tensor) -> Stored:
        """there: bool [length, stored], whether it is a vector."""
        norms = codes.float().square_().sum(dim=2).mul_(units).mul_(units)
        return cls(codes, units, norms.masked_fill_(~there, torch.inf))

    @classmethod
    def stacked(cls, each: Sequence[Stored]) -> Stored:
        """Those of several series, of the same sizes: [series, length, stored, ...]."""
        names = ("codes", "units", "norms")
        return cls(*(torch.stack([getattr(one, name) for one in each]) for name in names))

    def vectors(self) -> Tensor:
        """float32, as the codes are shaped."""
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
        """Queries one after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([part.squares for part in parts], dim=2), torch.cat([part.split for part in parts], dim=2))

    def nearer(self, other: Found) -> Found:
        """The nearest of both."""
        squares = torch.cat([self.squares, other.squares], dim=3)
        best = squares.topk(NEIGHBOURS, dim=3, largest=False)
        split = torch.cat([self.split, other.split], dim=3)
        at = best.indices[..., None].expand(*best.indices.shape, split.shape[4])
        return Found(best.values, split.gather(3, at))

    @property
    def distance(self) -> Float32:
        """Mean distance [series, length, query] to those there are."""
        there = self.squares.isfinite()
        if there.all():
            return np.asarray(self.squares.sqrt().mean(dim=3).numpy())
        total = self.squares.where(there, torch.zeros(())).sqrt().sum(dim=3)
        return np.asarray((total / there.sum(dim=3).clamp(min=1)).numpy())

    def shares(self, distance: Float32) -> Float32:
        """The squared mean distance split by channel [series, length, query, channel]."""
        split = self.split.sum(dim=3).numpy()
        whole = np.maximum(split.sum(axis=3, keepdims=True), np.float32(1e-12))
        return np.asarray(split * (np.square(distance)[..., None] / whole))


def measure(
    query: Tensor, mask: Tensor | None, stored: Sequence[Stored], size: int, permitted: Tensor | None = None
) -> Found:
    """query, mask: float32 [series, length, query, feature], 0 where missing (mask None: nothing is); stored: of each
    series; size: features a channel, one after another; permitted: bool [series, query, stored].
    """
    near, missing = [], []
    for part in _lots(stored):
        told = None if permitted is None else permitted[part]
        found = _nearest(query[part], None if mask is None else mask[part], Stored.stacked(stored[part]), told)
        near.append(found[0])
        missing.append(found[1])
    whole = (near[0], missing[0]) if len(near) == 1 else (torch.cat(near), torch.cat(missing))
    return _found(query, mask, *whole, size)


def _lots(stored: Sequence[Stored]) -> Iterator[slice]:
    """Series beside each other with as many vectors, so few that these stay in a core's cache as floats."""
    first = 0
    for kind, alike in groupby(stored, key=lambda each: each.codes.shape):
        stop, most = first + len(list(alike)), max(_LOT // max(kind.numel(), 1), 1)
        for at in range(first, stop, most):
            yield slice(at, min(at + most, stop))
        first = stop


def _nearest(query: Tensor, mask: Tensor | None, stored: Stored, permitted: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of series with as many vectors, stored [series, length, stored, ...]: the nearest [series, length, query, 3,
    feature], and whether there are fewer [series, length, query, 3]."""
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
    """Once more, by differences: the expanded square loses small distances to rounding, and so depends on the batch.

    near: [series, length, query, 3, feature], taken apart in place; missing: [series, length, query, 3].
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
    """Squares of the stored vectors' features that the query has [series, length, query, stored]."""
    squares = mask @ stored.vectors().square_().transpose(2, 3)
    return squares.masked_fill_(stored.norms.isinf()[:, :, None], torch.inf)
