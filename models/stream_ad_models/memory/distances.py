"""Distances of windows to a memory, and the standardised vectors that it is queried with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad_models.memory.nearest import Found
from stream_ad_models.memory.ring import RingBuffer

Float32 = NDArray[np.float32]

__all__ = ["NEUTRAL", "RATIO_FLOOR", "DistanceHistory", "MemoryDistance", "distance_of", "standardised"]

NEUTRAL = float(np.log(0.5))  # log ratio of a window without readings, and of one before the stream's first
RATIO_FLOOR = 0.1  # how far below the held-out maximum a distance lies means little (ADR 22)
_CLIP = 100.0


@dataclass(frozen=True, slots=True)
class MemoryDistance:
    """Distances of windows over the memory's held-out maximum. log_ratio: float32 [..., window, length]; shares:
    float32 [..., window, length, channel] >= 0, the squared ratio split by channel. Leading axis, if any: series."""

    log_ratio: Float32
    shares: Float32

    def __len__(self) -> int:
        return int(self.log_ratio.shape[-2])

    @classmethod
    def stacked(cls, parts: Sequence[MemoryDistance]) -> MemoryDistance:
        return cls(np.stack([part.log_ratio for part in parts]), np.stack([part.shares for part in parts]))

    def then(self, later: MemoryDistance) -> MemoryDistance:
        return MemoryDistance(
            np.concatenate([self.log_ratio, later.log_ratio], axis=-2),
            np.concatenate([self.shares, later.shares], axis=-3),
        )

    def of(self, series: int) -> MemoryDistance:
        return MemoryDistance(self.log_ratio[series], self.shares[series])


class DistanceHistory:
    """Distances of the last `windows` windows of one stream."""

    def __init__(self, windows: int, lengths: int, channels: int) -> None:
        self._log_ratio, self._shares = RingBuffer(windows, (lengths,)), RingBuffer(windows, (lengths, channels))

    def __len__(self) -> int:
        return len(self._log_ratio)

    @property
    def distances(self) -> MemoryDistance:
        """A view: `keep` changes it."""
        return MemoryDistance(self._log_ratio.rows, self._shares.rows)

    def keep(self, distances: MemoryDistance) -> None:
        self._log_ratio.keep(distances.log_ratio)
        self._shares.keep(distances.shares)

    def clear(self) -> None:
        self._log_ratio.clear()
        self._shares.clear()


def standardised(
    values: Float32, present: NDArray[np.bool_], centre: Float32, scale: Float32
) -> tuple[Tensor, Tensor | None]:
    """values [series, length, block, channel * size], present [series, length, block, channel] -> vectors, 0 where
    not present, and their mask, both float32; mask None: nothing is missing."""
    z = np.empty(values.shape, np.float32)
    np.subtract(values, centre[:, :, None], out=z)
    z /= scale[:, :, None]
    np.clip(z, -_CLIP, _CLIP, out=z)
    if present.all():
        return torch.from_numpy(z), None
    mask = np.repeat(present, values.shape[3] // present.shape[3], axis=3).astype(np.float32)
    z *= mask
    return torch.from_numpy(z), torch.from_numpy(mask)


def distance_of(found: Found, present: NDArray[np.bool_], held_out_max: Float32) -> MemoryDistance:
    """present: bool [series, length, block, channel]; held_out_max: float32 [series, length, 1]."""
    seen: NDArray[np.bool_] = np.asarray(present.any(axis=3))
    ratio = found.distance / held_out_max
    log_ratio = np.where(seen, np.log(ratio + RATIO_FLOOR), np.float32(NEUTRAL)).astype(np.float32)
    shares = found.shares(np.where(seen, ratio, np.float32(0.0)))
    return MemoryDistance(np.ascontiguousarray(log_ratio.swapaxes(1, 2)), np.ascontiguousarray(shares.swapaxes(1, 2)))
