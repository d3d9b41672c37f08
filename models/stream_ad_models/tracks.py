"""Running state of memories over one stream of rows: the last rows and windows, and what was said of the last ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.head import Placement
from stream_ad_models.memory import Reading, Recent, WindowMemory

Float32 = NDArray[np.float32]

__all__ = ["Track", "growth_blocks"]

_KEPT_READINGS = 12  # blocks: a window's own 8 and the few around them that a slot is placed between
_GAP_STEPS = 256  # a window counts as normal for those that share no row with it
_SPAN_STEPS = 512  # and is forgotten so much later; 1,024 or all: the same accuracy to .003


def growth_blocks(hop: int) -> tuple[int, int]:
    """Gap and span of the stream's own windows in a memory, in blocks."""
    return _GAP_STEPS // hop, _SPAN_STEPS // hop


class Track:
    """Memories over the same rows. Blocks are numbered from the series' first slot; one before it holds no reading."""

    def __init__(self, memories: Sequence[WindowMemory], ahead: int, *, grows: bool) -> None:
        """ahead: blocks after a slot's own whose windows may be looked at; grows: whether the stream's own windows
        come to count as normal."""
        self.memories = tuple(memories)
        self.hop = self.memories[0].hop
        self.placements = [Placement.of(memory.lengths, self.hop, ahead) for memory in self.memories]
        self._grows = grows
        self._reach = max(memory.reach_blocks for memory in self.memories) * self.hop
        self.clear(0)

    def clear(self, next_block: int) -> None:
        """Forgets everything; the next rows begin with block `next_block`."""
        channels = self.memories[0].channels
        self._rows = np.empty((0, channels), np.float32)
        self._recent: list[Recent | None] = [
            memory.recent(*growth_blocks(self.hop)) if self._grows else None for memory in self.memories
        ]
        self._readings = [Reading.neutral(0, len(memory.lengths), channels) for memory in self.memories]
        self._next_block = next_block

    def push(self, rows: Float32) -> None:
        """rows: float32 [blocks * hop, channel], following those before."""
        new = len(rows) // self.hop
        known = np.concatenate([self._rows, rows])
        for at, memory in enumerate(self.memories):
            reading, self._recent[at] = memory.read(known, new, self._recent[at])
            self._readings[at] = self._readings[at].then(reading)
        self._rows = known[len(known) - min(self._reach, len(known)) :].copy()
        self._next_block += new

    def around(self, blocks: NDArray[np.int64], known: NDArray[np.int64]) -> list[Reading]:
        """Per memory, readings around each block, none after block `known` [n]; see Placement.gather."""
        return [
            placement.gather(reading, blocks, self._next_block - len(reading), known)
            for placement, reading in zip(self.placements, self._readings, strict=True)
        ]

    def trim(self) -> None:
        """Drops readings that no later slot needs."""
        self._readings = [reading.last(_KEPT_READINGS) for reading in self._readings]
