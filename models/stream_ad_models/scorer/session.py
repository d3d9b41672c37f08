"""The running state of one series inside a memory scorer."""

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
    """What a session knows of the imputer's errors.

    tracks: one memory per grating; scales: per grating, float32 [scored channel]; point: the last grating's errors
    point by point; context_blocks: by how many blocks an imputation lags behind its window's end; bands: half-width of
    the band in standard deviations, float32 [scored channel].
    """

    tracks: Sequence[MemoryState]
    scales: Sequence[Float32]
    point: PointErrorState
    context_blocks: int
    bands: Float32


@dataclass(frozen=True, slots=True)
class ForecastState:
    """coefficients [1 + LAGS, scored channel] and spread [scored channel] of the forecast, its errors by point."""

    coefficients: Float64
    spread: Float64
    point: PointErrorState


class MemorySession:
    """Rings of the memories and of the imputed rows; rebuilt from rows alone."""

    def __init__(
        self,
        normaliser: Normaliser,
        combiner: ScoreCombiner,
        signal: MemoryState,
        imputed: ImputedState | None,
        forecasts: ForecastState | None,
        flags: BinaryChannelState | None,
    ) -> None:
        self.normaliser = normaliser
        self.combiner, self.signal, self.imputed, self.forecasts = combiner, signal, imputed, forecasts
        self.flags = flags
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
    def shape(self) -> tuple[object, ...]:
        """What the profile alone decides: sessions of one shape may begin together."""
        tracks = [self.signal, *(self.imputed.tracks if self.imputed else ())]
        return (self._scored, *(len(memory.lengths) for track in tracks for memory in track.memories))

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Sessions of one likeness may go on together."""
        tracks = [self.signal, *(self.imputed.tracks if self.imputed else ())]
        points = [part.point.batch_key for part in (self.imputed, self.forecasts) if part is not None]
        return (self.shape, len(self.mean), *(track.batch_key for track in tracks), *points)

    def clear(self, end_slot: int, window_blocks: int) -> None:
        """Forgets everything; the next window ends at `end_slot`."""
        block = (end_slot + 1) // self.hop - 1
        self.signal.clear(block + 1 - window_blocks)
        if self.imputed is not None:
            for track in self.imputed.tracks:
                track.clear(block - self.context)
            self.imputed.point.clear(block - self.context)
        if self.forecasts is not None:
            self.forecasts.point.clear(block)
        if self.flags is not None:
            self.flags.clear(block)
        self.mean.clear()
        self.std.clear()
        self.next_end = end_slot
