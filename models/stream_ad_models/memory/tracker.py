"""Running state of memories over one stream of rows: its newest rows, windows and distances."""

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

__all__ = ["MemoryState", "online_memory_blocks", "push_batch"]

_GAP_STEPS = 256  # a window is compared only with stored windows that share no row with it
_SPAN_STEPS = 512  # and is forgotten so much later (ADR 22)


def online_memory_blocks(hop: int) -> tuple[int, int]:
    """Gap and span of the online memory, in blocks."""
    return _GAP_STEPS // hop, _SPAN_STEPS // hop


class MemoryState:
    """State of memories over the same rows. Blocks are numbered from the series' first slot; those before it hold no
    reading."""

    def __init__(self, memories: Sequence[WindowMemory], look_ahead: int, *, online_memory: bool) -> None:
        """look_ahead: how many blocks after a slot's may be used; online_memory: whether the stream's windows are
        stored too."""
        self.memories = tuple(memories)
        self.hop = self.memories[0].hop
        self.alignments = [SlotAlignment.of(memory.lengths, self.hop, look_ahead) for memory in self.memories]
        channels = self.memories[0].channels
        rows = max(memory.reach_blocks for memory in self.memories) * self.hop
        self._rows = RingBuffer(rows, (channels,), np.float16)
        gap_span = online_memory_blocks(self.hop)
        self._online = [memory.online(*gap_span) for memory in self.memories] if online_memory else []
        kept = WINDOW_STEPS // self.hop  # a window emits so many blocks at most
        self._history = [DistanceHistory(kept, len(memory.lengths), channels) for memory in self.memories]
        self.next_block = 0

    def clear(self, next_block: int) -> None:
        """Forgets everything; the next rows begin with block `next_block`."""
        self._rows.clear()
        for online in self._online:
            online.clear()
        for distances in self._history:
            distances.clear()
        self.next_block = next_block

    @property
    def batch_key(self) -> tuple[int, int]:
        """States with the same key, over memories of the same lengths, may be pushed in one batch."""
        return len(self._rows), len(self._history[0])


def push_batch(states: Sequence[MemoryState], rows: Float32) -> list[MemoryDistance]:
    """rows: float32 [series, blocks * hop, channel] of at most 100 in size, following the earlier ones of each state;
    rounded to half precision, as the earlier ones are kept.

    Per memory the kept and the new distances [series, block, ...], oldest first, up to the block before `next_block`.
    """
    one, new = states[0], rows.shape[1] // states[0].hop
    kept = np.concatenate([np.stack([state._rows.rows for state in states]), rows.astype(np.float16)], axis=1)
    known = kept.astype(np.float32)
    out = []
    for at in range(len(one.memories)):
        online = [state._online[at] for state in states if state._online]
        added = distances_batch([state.memories[at] for state in states], known, new, online or None)
        distances = MemoryDistance.stacked([state._history[at].distances for state in states]).then(added)
        out.append(distances)
        for series, state in enumerate(states):
            state._history[at].keep(distances.of(series))
    for series, state in enumerate(states):
        state._rows.keep(kept[series])
        state.next_block += new
    return out
