"""The running state of one series inside a memory scorer, and how windows become scores of slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.ports import ScoredSlots, Window
from stream_ad_models.block_imputer import Imputed
from stream_ad_models.forecast import LAGS, forecast_errors
from stream_ad_models.head import Head, attribution
from stream_ad_models.normaliser import Normaliser
from stream_ad_models.point_error import PointTrack
from stream_ad_models.tracks import Track

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["ERROR_CLIP", "ForecastState", "ImputedState", "MemorySession"]

ERROR_CLIP = 50.0
_KEPT_BLOCKS = 16  # of expected values: a window's own 8, and as many before them


@dataclass(frozen=True, slots=True)
class ImputedState:
    """What a session knows of the imputer's errors.

    tracks: one memory per grating; scales: per grating, float32 [scored channel]; point: the last grating's errors
    point by point; context_blocks: by how many blocks an imputation lags behind its window's end; bands: half-width of
    the band in standard deviations, float32 [scored channel].
    """

    tracks: Sequence[Track]
    scales: Sequence[Float32]
    point: PointTrack
    context_blocks: int
    bands: Float32


@dataclass(frozen=True, slots=True)
class ForecastState:
    """coefficients [1 + LAGS, scored channel] and spread [scored channel] of the forecast, its errors by point."""

    coefficients: Float64
    spread: Float64
    point: PointTrack

    def errors(self, windows: Float32, hop: int) -> Float32:
        """z-scores [window, steps, channel] -> errors of each window's last block, float32 [window, hop, channel]."""
        errors = forecast_errors(windows.astype(np.float64), self.coefficients)[:, -hop:]
        return np.asarray(errors / self.spread, np.float32)


class MemorySession:
    """Rings of the memories and of the imputed rows; rebuilt from rows alone."""

    def __init__(
        self,
        normaliser: Normaliser,
        head: Head,
        signal: Track,
        imputed: ImputedState | None,
        forecasts: ForecastState | None,
    ) -> None:
        self.normaliser = normaliser
        self._head, self._signal, self._imputed, self._forecasts = head, signal, imputed, forecasts
        self._hop = signal.hop
        self._context = imputed.context_blocks if imputed else 0
        self._next_end: int | None = None
        scored = int(normaliser.scored.sum())
        self._mean = self._std = np.empty((0, self._hop, scored), np.float32)

    @property
    def channels(self) -> int:
        return len(self.normaliser.centre)

    def take(self, windows: Sequence[Window], z: Float32, imputed: Sequence[Imputed]) -> list[ScoredSlots]:
        """Scores of windows in order; z: float32 [window, steps, channel] z-scores; imputed: one per grating."""
        out: list[ScoredSlots] = []
        first = 0
        for at in range(1, len(windows) + 1):
            if at == len(windows) or windows[at].end_slot != windows[at - 1].end_slot + self._hop:
                part = slice(first, at)
                parts = [each.part(part) for each in imputed]
                out += self._take_run(windows[part], z[part], parts)
                first = at
        return out

    def _take_run(self, windows: Sequence[Window], z: Float32, imputed: Sequence[Imputed]) -> list[ScoredSlots]:
        """Windows one hop apart. One that does not follow the last seen begins the session anew."""
        hop = self._hop
        ends = np.array([window.end_slot for window in windows], np.int64)
        if (ends[0] + 1) % hop:
            raise DataError(f"window: expected an end one before a multiple of {hop}, found slot {ends[0]}")
        blocks = (ends + 1) // hop - 1
        signal = z[:, :, self.normaliser.scored]
        rows = signal[:, -hop:].reshape(-1, signal.shape[2])
        if self._next_end != ends[0]:
            self._clear(int(blocks[0]), signal.shape[1] // hop)
            rows = np.concatenate([signal[0, :-hop], rows])
        self._signal.push(rows)
        if self._imputed is not None:
            self._push_imputed(self._imputed, signal, imputed)
        if self._forecasts is not None:
            # The lags, and as many again in which a missing reading may find the one before it.
            self._forecasts.point.push(self._forecasts.errors(signal[:, -(hop + 2 * LAGS) :], hop))
        self._next_end = int(ends[-1]) + hop
        out = self._emit(windows, blocks)
        self._trim()
        return out

    def _clear(self, block: int, window_blocks: int) -> None:
        """`block`: number of the first window's last block."""
        self._signal.clear(block + 1 - window_blocks)
        if self._imputed is not None:
            for track in self._imputed.tracks:
                track.clear(block - self._context)
            self._imputed.point.clear(block - self._context)
        if self._forecasts is not None:
            self._forecasts.point.clear(block)
        self._mean = self._std = self._mean[:0]

    def _push_imputed(self, part: ImputedState, signal: Float32, imputed: Sequence[Imputed]) -> None:
        own = _block(signal, self._hop, self._context)
        for track, scale, each in zip(part.tracks, part.scales, imputed, strict=True):
            error = (own - each.mean) / scale
            track.push(np.clip(error, -ERROR_CLIP, ERROR_CLIP).reshape(-1, error.shape[2]))
        part.point.push(error)
        self._mean = np.concatenate([self._mean, imputed[-1].mean])
        self._std = np.concatenate([self._std, imputed[-1].std])

    def _trim(self) -> None:
        self._signal.trim()
        if self._imputed is not None:
            for track in self._imputed.tracks:
                track.trim()
            self._imputed.point.trim()
        if self._forecasts is not None:
            self._forecasts.point.trim()
        self._mean, self._std = self._mean[-_KEPT_BLOCKS:], self._std[-_KEPT_BLOCKS:]

    def _emit(self, windows: Sequence[Window], blocks: NDArray[np.int64]) -> list[ScoredSlots]:
        """All slots of a run at once: `wanted` blocks, each looking no further than its own window's end."""
        hop = self._hop
        spans = [range(w.emit_from // hop, -(-w.emit_to // hop) if w.emit_to > w.emit_from else 0) for w in windows]
        wanted = np.array([block for span in spans for block in span], np.int64)
        known = np.repeat(blocks, [len(span) for span in spans])
        values, parts = self._maps(wanted, known)
        raw = self._head.raw(values)
        expected, half = self._expected(wanted, known - self._context, int(blocks[-1]) - self._context)
        out, at = [], 0
        for window, span in zip(windows, spans, strict=True):
            here = slice(at, at + len(span))
            at += len(span)
            begin = window.emit_from - span.start * hop if span else 0
            rows = slice(begin, begin + max(window.emit_to - window.emit_from, 0))
            mine = [each[here].reshape(-1, each.shape[2])[rows] for each in (parts, expected, half)]
            out.append(self._slots(window.emit_from, raw[here].reshape(-1)[rows], *mine))
        return out

    def _maps(self, wanted: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[list[Float64], Float32]:
        """Every map's values [n, hop] in the order of `fit`, and what the memories lay to each channel
        [n, hop, channel]."""
        tracks = [(self._signal, known)]
        if self._imputed is not None:
            tracks += [(track, known - self._context) for track in self._imputed.tracks]
        values: list[Float64] = []
        parts = np.zeros((len(wanted), self._hop, self._mean.shape[2]), np.float32)
        for track, until in tracks:
            for placement, around in zip(track.placements, track.around(wanted, until), strict=True):
                parts += np.float32(self._head.weights[len(values)]) * placement.parts(around)
                values.append(placement.values(around))
        if self._imputed is not None:
            values.append(self._imputed.point.values(wanted, known - self._context))
        if self._forecasts is not None:
            values.append(self._forecasts.point.values(wanted, known))
        return values, parts

    def _expected(self, wanted: NDArray[np.int64], known: NDArray[np.int64], last: int) -> tuple[Float32, Float32]:
        """Imputed mean and band's half-width in z-scores [n, hop, scored]; 0 and one deviation where none is in."""
        first = last + 1 - len(self._mean)
        inside = (wanted >= first) & (wanted <= known)
        shape = (len(wanted), *self._mean.shape[1:])
        mean, half = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        mean[inside] = self._mean[wanted[inside] - first]
        half[inside] = self._std[wanted[inside] - first]
        return mean, half * (self._imputed.bands if self._imputed is not None else np.float32(1.0))

    def _slots(self, first_slot: int, raw: Float64, parts: Float32, mean: Float32, half: Float32) -> ScoredSlots:
        normaliser, scored = self.normaliser, self.normaliser.scored
        shape = (len(raw), self.channels)
        expected = np.broadcast_to(normaliser.centre, shape).astype(np.float32)
        lower = np.broadcast_to(normaliser.low, shape).astype(np.float32)
        upper = np.broadcast_to(normaliser.high, shape).astype(np.float32)
        if self._imputed is not None:
            moving = scored & ~normaliser.constant  # a constant's expected value is the constant
            inner = ~normaliser.constant[scored]
            expected[:, moving] = normaliser.restore(mean[:, inner], moving)
            lower[:, moving] = normaliser.restore((mean - half)[:, inner], moving)
            upper[:, moving] = normaliser.restore((mean + half)[:, inner], moving)
        return ScoredSlots(first_slot, raw, expected, lower, upper, attribution(parts, scored))


def _block(windows: Float32, hop: int, back: int) -> Float32:
    """The block `back` blocks before the end of each window, [window, hop, channel]."""
    stop = windows.shape[1] - back * hop
    return windows[:, stop - hop : stop]
