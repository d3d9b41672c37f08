"""The nearest of stored vectors, missing features left out of the distance, for several series and lengths at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Float32 = NDArray[np.float32]

__all__ = ["CHUNK", "NEIGHBOURS", "Found", "Stored", "measure"]

NEIGHBOURS = 3
CHUNK = 256  # queries a call, over all series: bounds the memory to some 10 MB


@dataclass(frozen=True, slots=True)
class Stored:
    """vectors float16 [length, stored, feature], contiguous; norms float32 [length, stored], infinite where there is no
    vector (which may be NaN). Half the bits hold twice as many series; what is worked out of them is float32."""

    vectors: Tensor
    norms: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Stored:
        half = vectors.half()
        return cls(half, half.float().square().sum(dim=2).nan_to_num(nan=torch.inf))


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

    Only the products with what is stored go series by series: copying that together would cost more than they do.
    """
    series, lengths, queries, features = query.shape
    most = max(each.vectors.shape[1] for each in stored)
    apart = torch.full((series, lengths, queries, max(most, NEIGHBOURS)), torch.inf)
    for at, each in enumerate(stored):
        norms = each.norms[:, None] if mask is None else _masked_norms(mask[at], each)
        there = norms.expand(lengths, queries, -1)
        across = each.vectors.float().transpose(1, 2)
        torch.baddbmm(there, query[at], across, alpha=-2.0, out=apart[at, ..., : norms.shape[2]])
    if permitted is not None:
        apart[..., :most].masked_fill_(~permitted[:, None], torch.inf)
    best = apart.topk(NEIGHBOURS, dim=3, largest=False)  # NaN counts as the largest
    missing = ~best.values.isfinite()
    near = torch.zeros((series, lengths, queries, NEIGHBOURS, features))
    for at, each in enumerate(stored):
        count = each.vectors.shape[1]
        if count:
            flat = best.indices[at].clamp(max=count - 1) + torch.arange(lengths)[:, None, None] * count
            near[at].view(-1, features).copy_(each.vectors.view(-1, features).index_select(0, flat.view(-1)))
    return _found(query, mask, near, missing, size)


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
    """Squares of the stored vectors' features that the query has [length, query, stored]."""
    squares = torch.bmm(mask, stored.vectors.float().square().transpose(1, 2))
    return squares.masked_fill_(stored.norms.isinf()[:, None], torch.inf)
