"""One length of a memory from history: which windows are stored, and how far normal reaches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad_models.memory.distances import MemoryDistance, distance_of, standardised
from stream_ad_models.memory.nearest import CHUNK, Found, Stored, measure

Float32 = NDArray[np.float32]

__all__ = ["fit_length"]

FOLDS = 4
_FLOOR = 0.1  # smallest spread of a feature, in the units of the rows
_SMALLEST_EDGE = 0.2  # a history that only repeats itself has no largest distance
_CONTAMINATED = 0.03  # share of the history's windows, the farthest, that are not taken for normal


def fit_length(
    values: Float32, present: NDArray[np.bool_], first: int, capacity: int
) -> tuple[dict[str, Float32], MemoryDistance]:
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
    query, mask = standardised(flat, read, centre[None, None], scale[None, None])
    stored_mask = torch.from_numpy(np.repeat(seen[kept], values.shape[2], axis=1).astype(np.float32))
    windows = query[0, 0, kept] * stored_mask
    found = _held_out(query, mask, kept, windows, blocks=first + 1, size=values.shape[2])
    order = candidates[np.argsort(found.distance[0, 0, candidates], kind="stable")]
    trusted = order[: len(order) - int(_CONTAMINATED * len(order))]
    edge = np.array([max(float(found.distance[0, 0, trusted[-1]]), _SMALLEST_EDGE)], np.float32)
    windows = windows[torch.from_numpy(np.isin(kept, trusted))]
    reading = distance_of(found, read, edge[None, :, None])
    reading = MemoryDistance(reading.log_ratio[0], reading.shares[0])
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
