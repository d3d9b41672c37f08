"""Running state of one memory over one stream of rows: the last blocks, and what it said of the last windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.head import Placement
from stream_ad_models.memory import Reading, WindowMemory
from stream_ad_models.window_stats import Blocks

Float32 = NDArray[np.float32]

__all__ = ["Track"]

_KEPT_READINGS = 12  # blocks: a window's own 8 and the few around them that a slot is placed between


class Track:
    """Blocks are numbered from the series' first slot; a block before it holds no reading."""

    def __init__(self, memory: WindowMemory, ahead: int) -> None:
        """ahead: blocks after a slot's own whose windows may be looked at."""
        self.memory = memory
        self.placement = Placement.of(memory.lengths, memory.hop, ahead)
        self.clear(0)

    def clear(self, next_block: int) -> None:
        """Forgets everything; the next rows begin with block `next_block`."""
        nothing = np.empty((0, self.memory.channels), np.float32)
        self._blocks = Blocks.of(nothing, self.memory.hop)
        self._reading = Reading.neutral(0, len(self.memory.levels), self.memory.channels)
        self._next_block = next_block

    def push(self, rows: Float32) -> None:
        """rows: float32 [blocks * hop, channel], following those before."""
        new = Blocks.of(rows, self.memory.hop)
        blocks = self._blocks.then(new)
        self._reading = self._reading.then(self.memory.read(blocks, len(new)))
        self._blocks = blocks.last(self.memory.reach_blocks)
        self._next_block += len(new)

    def around(self, blocks: NDArray[np.int64], known: NDArray[np.int64]) -> Reading:
        """Readings around each block, none after block `known` [n]; see Placement.gather."""
        return self.placement.gather(self._reading, blocks, self._next_block - len(self._reading), known)

    def trim(self) -> None:
        """Drops readings that no later slot needs."""
        self._reading = self._reading.last(_KEPT_READINGS)
