"""The nearest of stored vectors, missing features left out of the distance, for several lengths in one call."""

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
CHUNK = 256  # queries a call: bounds the memory to some 10 MB


@dataclass(frozen=True, slots=True)
class Stored:
    """vectors float32 [length, stored, feature]; norms [length, stored], infinite where there is no vector (NaN)."""

    vectors: Tensor
    norms: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Stored:
        return cls(vectors, vectors.square().sum(dim=2).nan_to_num(nan=torch.inf))


@dataclass(frozen=True, slots=True)
class Found:
    """The nearest stored vectors of queries.

    squares: float32 [length, query, 3] squared distances, infinite where there are fewer; split: float32
    [length, query, 3, channel], the same by channel.
    """

    squares: Tensor
    split: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """Queries one after another."""
        return cls(torch.cat([part.squares for part in parts], dim=1), torch.cat([part.split for part in parts], dim=1))

    def nearer(self, other: Found) -> Found:
        """The nearest of both."""
        squares = torch.cat([self.squares, other.squares], dim=2)
        best = squares.topk(NEIGHBOURS, dim=2, largest=False)
        split = torch.cat([self.split, other.split], dim=2)
        at = best.indices[..., None].expand(-1, -1, -1, split.shape[3])
        return Found(best.values, split.gather(2, at))

    @property
    def distance(self) -> Float32:
        """Mean distance [length, query] to those there are."""
        there = self.squares.isfinite()
        total = self.squares.where(there, torch.zeros(())).sqrt().sum(dim=2)
        return np.asarray((total / there.sum(dim=2).clamp(min=1)).numpy())

    @property
    def shares(self) -> Float32:
        """The squared mean distance split by channel [length, query, channel]."""
        split = self.split.sum(dim=2)
        whole = split.sum(dim=2, keepdim=True).clamp(min=1e-12)
        return np.asarray(split.numpy() / whole.numpy() * np.square(self.distance)[..., None])


def measure(query: Tensor, mask: Tensor, stored: Stored, size: int, permitted: Tensor | None = None) -> Found:
    """query, mask: float32 [length, query, feature], 0 where missing; size: features a channel, one after another;
    permitted: bool [length, query, stored]."""
    lengths, queries, features = query.shape
    count = min(NEIGHBOURS, stored.vectors.shape[1])
    if count == 0:
        none = torch.full((lengths, queries, NEIGHBOURS), torch.inf)
        return Found(none, torch.zeros((lengths, queries, NEIGHBOURS, features // size)))
    vectors = stored.vectors.nan_to_num() if stored.norms.isinf().any() else stored.vectors
    norms = stored.norms[:, None] if mask.all() else _masked_norms(mask, vectors, stored.norms)
    apart = torch.baddbmm(norms.expand(lengths, queries, -1), query, vectors.transpose(1, 2), alpha=-2.0)
    if permitted is not None:
        apart = apart.masked_fill(~permitted, torch.inf)
    best = apart.topk(count, dim=2, largest=False)
    near = vectors[torch.arange(lengths)[:, None, None], best.indices]
    # Once more, by differences: the expanded square loses small distances to rounding, and so depends on the batch.
    split = ((query[:, :, None] - near) * mask[:, :, None]).square()
    split = split.view(lengths, queries, count, -1, size).sum(dim=4)
    whole = features / mask.sum(dim=2).clamp(min=1.0)
    squares = (split.sum(dim=3) * whole[..., None]).masked_fill(best.values.isinf(), torch.inf)
    split = split.masked_fill(best.values.isinf()[..., None], 0.0)
    lacking = NEIGHBOURS - count
    if lacking:
        squares = torch.nn.functional.pad(squares, (0, lacking), value=torch.inf)
        split = torch.nn.functional.pad(split, (0, 0, 0, lacking))
    return Found(squares, split)


def _masked_norms(mask: Tensor, vectors: Tensor, norms: Tensor) -> Tensor:
    """Squares of the stored vectors' features that the query has [length, query, stored]."""
    return torch.bmm(mask, vectors.square().transpose(1, 2)).masked_fill(norms.isinf()[:, None], torch.inf)
