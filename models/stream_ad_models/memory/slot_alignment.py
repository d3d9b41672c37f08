"""From windows to slots: which windows of a memory a slot's value is read from.

A window's distance is assigned to the slot at its centre; within the look-ahead of the stream's end, to the latest
window available.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.memory.distances import NEUTRAL, MemoryDistance

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["SlotAlignment", "slot_weights"]


def slot_weights(length: int, hop: int, look_ahead: int) -> Float32:
    """Weights float32 [hop, ahead + 2] of the windows that end with blocks -1 ... ahead (0 = the slot's own block) for
    each slot of a block: linear between the two windows whose ends lie around slot + length / 2."""
    wanted = np.minimum(np.arange(hop) + length // 2, (look_ahead + 1) * hop - 1)
    place = (wanted + 1) / hop  # 0 = the window that ends with block -1
    lower = np.floor(place).astype(int)
    part = place - lower
    weights = np.zeros((hop, look_ahead + 3), np.float32)
    slots = np.arange(hop)
    weights[slots, lower] = 1 - part
    weights[slots, lower + 1] += part
    return weights[:, : look_ahead + 2]


@dataclass(frozen=True, slots=True)
class SlotAlignment:
    """Turns distances of one memory into values of slots. weights: float32 [level, hop, ahead + 2]."""

    weights: Float32
    look_ahead: int

    @classmethod
    def of(cls, lengths: Sequence[int], hop: int, look_ahead: int) -> SlotAlignment:
        """Shared by all series with these arguments."""
        return _alignment(tuple(lengths), hop, look_ahead)

    def gather(
        self, distances: MemoryDistance, blocks: NDArray[np.int64], first: int, known: NDArray[np.int64]
    ) -> MemoryDistance:
        """The windows around each block: log_ratio [..., n * (ahead + 2), level], shares likewise.

        blocks: numbers [n]; first: number of the first block of `distances`; known: [n] last block that may be used.
        Windows before the first and after the last known one are neutral.
        """
        wanted = blocks[:, None] + np.arange(-1, self.look_ahead + 1)
        inside = (wanted >= first) & (wanted < first + len(distances)) & (wanted <= known[:, None])
        at = np.where(inside, wanted - first, 0).reshape(-1)
        missing = ~inside.reshape(-1)
        log_ratio, shares = distances.log_ratio[..., at, :], distances.shares[..., at, :, :]
        if missing.any():
            log_ratio[..., missing, :], shares[..., missing, :, :] = NEUTRAL, 0.0
        return MemoryDistance(log_ratio, shares)

    def values(self, around: MemoryDistance) -> Float64:
        """Mean log ratio float64 [..., n, hop] of every slot of the n blocks passed to `gather`."""
        wide = around.log_ratio.reshape(*around.log_ratio.shape[:-2], -1, self._windows).astype(np.float64)
        return np.asarray(wide @ self._flat.astype(np.float64).T / len(self.weights), np.float64)

    def parts(self, around: MemoryDistance) -> Float32:
        """Squared ratios by channel [..., n, hop, channel], lengths added up."""
        shares = around.shares
        wide = shares.reshape(*shares.shape[:-3], -1, self._windows, shares.shape[-1])
        return np.asarray(self._flat @ wide, np.float32)

    @property
    def _windows(self) -> int:
        """Windows around a block, all levels together."""
        return (self.look_ahead + 2) * len(self.weights)

    @property
    def _flat(self) -> Float32:
        """weights as [hop, window around], the order of `gather`."""
        return self.weights.transpose(1, 2, 0).reshape(self.weights.shape[1], -1)


@lru_cache
def _alignment(lengths: tuple[int, ...], hop: int, look_ahead: int) -> SlotAlignment:
    return SlotAlignment(np.stack([slot_weights(length, hop, look_ahead) for length in lengths]), look_ahead)
