"""Running state of memories over one stream of rows: the last rows and windows, and what was said of the last ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.defaults import WINDOW_STEPS
from stream_ad_models.memory.distances import DistanceHistory, MemoryDistance
from stream_ad_models.memory.ring import RingBuffer
from stream_ad_models.memory.slot_alignment import SlotAlignment
from stream_ad_models.memory.window_memory import WindowMemory, distances_batch

Float32 = NDArray[np.float32]

__all__ = ["MemoryState", "growth_blocks", "push_batch"]

_GAP_STEPS = 256  # a window counts as normal for those that share no row with it
_SPAN_STEPS = 512  # and is forgotten so much later; 1,024 or all: the same accuracy to .003


def growth_blocks(hop: int) -> tuple[int, int]:
    """Gap and span of the stream's own windows in a memory, in blocks."""
    return _GAP_STEPS // hop, _SPAN_STEPS // hop


class MemoryState:
    """Memories over the same rows. Blocks are numbered from the series' first slot; one before it holds no reading."""

    def __init__(self, memories: Sequence[WindowMemory], ahead: int, *, grows: bool) -> None:
        """ahead: blocks after a slot's own whose windows may be looked at; grows: whether the stream's own windows
        come to count as normal."""
        self.memories = tuple(memories)
        self.hop = self.memories[0].hop
        self.alignments = [SlotAlignment.of(memory.lengths, self.hop, ahead) for memory in self.memories]
        channels, kept = self.memories[0].channels, WINDOW_STEPS // self.hop  # a window tells of so many blocks at most
        self._rows = RingBuffer(
            max(memory.reach_blocks for memory in self.memories) * self.hop, (channels,), np.float16
        )
        self._recent = [memory.recent(*growth_blocks(self.hop)) for memory in self.memories] if grows else []
        self._readings = [DistanceHistory(kept, len(memory.lengths), channels) for memory in self.memories]
        self.next_block = 0

    def clear(self, next_block: int) -> None:
        """Forgets everything; the next rows begin with block `next_block`."""
        self._rows.clear()
        for recent in self._recent:
            recent.clear()
        for readings in self._readings:
            readings.clear()
        self.next_block = next_block

    @property
    def batch_key(self) -> tuple[int, int]:
        """Tracks of the same likeness, over memories of the same lengths, may be pushed together."""
        return len(self._rows), len(self._readings[0])


def push_batch(tracks: Sequence[MemoryState], rows: Float32) -> list[MemoryDistance]:
    """rows: float32 [series, blocks * hop, channel] of at most 100 in size, following those before of each track; read
    in half precision, as those before are kept.

    Per memory, the readings that are still known and the new ones behind them, [series, block, ...]; the last is that
    of the block before `next_block`.
    """
    one, new = tracks[0], rows.shape[1] // tracks[0].hop
    kept = np.concatenate([np.stack([track._rows.rows for track in tracks]), rows.astype(np.float16)], axis=1)
    known = kept.astype(np.float32)
    out = []
    for at in range(len(one.memories)):
        recents = [track._recent[at] for track in tracks if track._recent]
        reading = distances_batch([track.memories[at] for track in tracks], known, new, recents or None)
        reading = MemoryDistance.stacked([track._readings[at].reading for track in tracks]).then(reading)
        out.append(reading)
        for series, track in enumerate(tracks):
            track._readings[at].keep(reading.of(series))
    for series, track in enumerate(tracks):
        track._rows.keep(kept[series])
        track.next_block += new
    return out
