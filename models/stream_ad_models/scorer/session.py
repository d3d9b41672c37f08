"""The running state of one series inside an imputation scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.defaults import WINDOW_STEPS
from stream_ad_models.memory.ring import RingBuffer
from stream_ad_models.memory.tracker import MemoryState
from stream_ad_models.scorer.binary_channels import BinaryChannelState
from stream_ad_models.scorer.combine import ScoreCombiner
from stream_ad_models.scorer.normaliser import Normaliser
from stream_ad_models.scorer.point_error import PointErrorState

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["ERROR_CLIP", "ForecastState", "ImputedState", "MemorySession"]

ERROR_CLIP = 50.0


@dataclass(frozen=True, slots=True)
class ImputedState:
    """State over the imputer's errors.

    memories: one per stripe mask; scales: per stripe mask, float32 [scored channel]; point: the last stripe mask's
    errors point by point; context_blocks: how far an imputed block lies before its window's end; intervals: half-width
    of the prediction interval in standard deviations, float32 [scored channel].
    """

    memories: Sequence[MemoryState]
    scales: Sequence[Float32]
    point: PointErrorState
    context_blocks: int
    intervals: Float32


@dataclass(frozen=True, slots=True)
class ForecastState:
    """coefficients [1 + LAGS, scored channel] and spread [scored channel] of the forecast, its errors by point."""

    coefficients: Float64
    spread: Float64
    point: PointErrorState


class MemorySession:
    """States of the components and ring buffers of the imputed rows; can be rebuilt from rows alone."""

    def __init__(
        self,
        normaliser: Normaliser,
        combiner: ScoreCombiner,
        signal: MemoryState,
        imputed: ImputedState | None,
        forecast: ForecastState | None,
        binary: BinaryChannelState | None,
    ) -> None:
        self.normaliser, self.combiner = normaliser, combiner
        self.signal, self.imputed, self.forecast, self.binary = signal, imputed, forecast, binary
        self.hop = signal.hop
        self.context = imputed.context_blocks if imputed else 0
        self.next_end: int | None = None
        self._scored = normaliser.scored.tobytes()
        scored = int(normaliser.scored.sum())
        self.mean, self.std = (RingBuffer(WINDOW_STEPS // self.hop, (self.hop, scored), np.float16) for _ in range(2))

    @property
    def channels(self) -> int:
        return len(self.normaliser.centre)

    @property
    def memory_states(self) -> Sequence[MemoryState]:
        return (self.signal, *(self.imputed.memories if self.imputed else ()))

    @property
    def shape(self) -> tuple[object, ...]:
        """Depends on the profile alone: sessions of one shape may start in one batch."""
        return (self._scored, *(len(each.lengths) for state in self.memory_states for each in state.memories))

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Started sessions with the same key may be scored in one batch."""
        points = [part.point.batch_key for part in (self.imputed, self.forecast) if part is not None]
        return (self.shape, len(self.mean), *(state.batch_key for state in self.memory_states), *points)

    def clear(self, end_slot: int, window_blocks: int) -> None:
        """Forgets everything; the next window ends at `end_slot`."""
        block = (end_slot + 1) // self.hop - 1
        self.signal.clear(block + 1 - window_blocks)
        if self.imputed is not None:
            for memory in self.imputed.memories:
                memory.clear(block - self.context)
            self.imputed.point.clear(block - self.context)
        if self.forecast is not None:
            self.forecast.point.clear(block)
        if self.binary is not None:
            self.binary.clear(block)
        self.mean.clear()
        self.std.clear()
        self.next_end = end_slot

    def trim(self) -> None:
        """Drops what no later slot needs."""
        for part in (self.imputed, self.forecast):
            if part is not None:
                part.point.trim()
        if self.binary is not None:
            self.binary.trim()
