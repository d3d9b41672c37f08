"""What a memory says of windows, and the vectors it is asked about."""

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

NEUTRAL = float(np.log(0.5))  # log ratio where nothing can be said: no reading, or a stream that just began
# How much nearer than the edge a window is says little (at .001: .757 | .624 instead of .760 | .634).
RATIO_FLOOR = 0.1
_CLIP = 100.0


@dataclass(frozen=True, slots=True)
class MemoryDistance:
    """What a memory says of windows: log_ratio float32 [..., window, length]; shares float32
    [..., window, length, channel] >= 0, the squared ratio split by channel. Leading axis, if any: series."""

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
    """The last readings of one stream, of so many windows."""

    def __init__(self, windows: int, lengths: int, channels: int) -> None:
        self._log_ratio, self._shares = RingBuffer(windows, (lengths,)), RingBuffer(windows, (lengths, channels))

    def __len__(self) -> int:
        return len(self._log_ratio)

    @property
    def reading(self) -> MemoryDistance:
        """A view: `keep` changes it."""
        return MemoryDistance(self._log_ratio.rows, self._shares.rows)

    def keep(self, reading: MemoryDistance) -> None:
        self._log_ratio.keep(reading.log_ratio)
        self._shares.keep(reading.shares)

    def clear(self) -> None:
        self._log_ratio.clear()
        self._shares.clear()


def standardised(
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


def distance_of(found: Found, present: NDArray[np.bool_], edge: Float32) -> MemoryDistance:
    """Of distances to the nearest windows; present: [series, length, block, channel]; edge: [series, length, 1]."""
    seen: NDArray[np.bool_] = np.asarray(present.any(axis=3))
    distance = found.distance
    log_ratio = np.where(seen, np.log(distance / edge + RATIO_FLOOR), np.float32(NEUTRAL)).astype(np.float32)
    shares = found.shares(np.where(seen, distance / edge, np.float32(0.0)))
    return MemoryDistance(np.ascontiguousarray(log_ratio.swapaxes(1, 2)), np.ascontiguousarray(shares.swapaxes(1, 2)))
