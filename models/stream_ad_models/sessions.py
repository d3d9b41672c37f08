"""The running state of one series inside a memory scorer, and how windows become scores of slots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.ports import ScoredSlots, Window
from stream_ad_models.block_imputer import Imputed
from stream_ad_models.head import Head, attribution
from stream_ad_models.normaliser import Normaliser
from stream_ad_models.point_error import PointError
from stream_ad_models.tracks import Track

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["MemorySession"]

RESIDUAL_CLIP = 50.0
_KEPT_BLOCKS = 16  # a window's own 8, and what the kernel of the point errors reaches back from the oldest of them


class MemorySession:
    """Rings of the signal's and the residuals' memories and of the imputed rows; rebuilt from rows alone."""

    def __init__(
        self,
        normaliser: Normaliser,
        head: Head,
        signal: Track,
        *,
        residuals: Sequence[Track],
        point: PointError | None,
        residual_scales: Sequence[Float32],
        context_blocks: int,
        band: float,
    ) -> None:
        """residual_scales: per grating [scored channel]; band: half-width of the band in standard deviations."""
        self.normaliser = normaliser
        self._head, self._signal, self._residuals = head, signal, tuple(residuals)
        self._scales, self._context, self._band = tuple(residual_scales), context_blocks, band
        self._point = point
        self._hop = signal.memory.hop
        self._next_end: int | None = None
        scored = int(normaliser.scored.sum())
        self._mean = self._std = np.empty((0, self._hop, scored), np.float32)
        self._level = np.empty((0, self._hop))  # of the last grating's errors, up to the same block as _mean

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
        hop, scored = self._hop, self.normaliser.scored
        ends = np.array([window.end_slot for window in windows], np.int64)
        if (ends[0] + 1) % hop:
            raise DataError(f"window: expected an end one before a multiple of {hop}, found slot {ends[0]}")
        blocks = (ends + 1) // hop - 1
        signal = z[:, :, scored]
        rows = signal[:, -hop:].reshape(-1, signal.shape[2])
        if self._next_end != ends[0]:
            self._signal.clear(int(blocks[0]) + 1 - signal.shape[1] // hop)
            for track in self._residuals:
                track.clear(int(blocks[0]) - self._context)
            self._mean = self._std = self._mean[:0]
            self._level = self._level[:0]
            rows = np.concatenate([signal[0, :-hop], rows])
        self._signal.push(rows)
        own = _block(signal, hop, self._context)
        for track, scale, each in zip(self._residuals, self._scales, imputed, strict=True):
            residual = np.clip((own - each.mean) / scale, -RESIDUAL_CLIP, RESIDUAL_CLIP)
            track.push(residual.reshape(-1, residual.shape[2]))
        if self._point is not None:
            self._level = np.concatenate([self._level, self._point.level(residual)])
            self._mean = np.concatenate([self._mean, imputed[-1].mean])
            self._std = np.concatenate([self._std, imputed[-1].std])
        self._next_end = int(ends[-1]) + hop
        out = self._emit(windows, blocks)
        for track in (self._signal, *self._residuals):
            track.trim()
        self._mean, self._std = self._mean[-_KEPT_BLOCKS:], self._std[-_KEPT_BLOCKS:]
        self._level = self._level[-_KEPT_BLOCKS:]
        return out

    def _emit(self, windows: Sequence[Window], blocks: NDArray[np.int64]) -> list[ScoredSlots]:
        """All slots of a run at once: `wanted` blocks, each looking no further than its own window's end."""
        hop = self._hop
        spans = [range(w.emit_from // hop, -(-w.emit_to // hop) if w.emit_to > w.emit_from else 0) for w in windows]
        wanted = np.array([block for span in spans for block in span], np.int64)
        known = np.repeat(blocks, [len(span) for span in spans])
        arounds = [(self._signal, self._signal.around(wanted, known))]
        arounds += [(track, track.around(wanted, known - self._context)) for track in self._residuals]
        values = [track.placement.values(around) for track, around in arounds]
        if self._point is not None:
            first = int(blocks[-1]) - self._context + 1 - len(self._level)
            values.append(self._point.values(self._level, wanted, first, known - self._context))
        raw = self._head.raw(values)
        parts = sum(
            (track.placement.parts(around) for track, around in arounds[1:]),
            arounds[0][0].placement.parts(arounds[0][1]),
        )
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

    def _expected(self, wanted: NDArray[np.int64], known: NDArray[np.int64], last: int) -> tuple[Float32, Float32]:
        """Imputed mean and band's half-width in z-scores [n, hop, scored]; centre and one band where none is in."""
        first = last + 1 - len(self._mean)
        inside = (wanted >= first) & (wanted <= known)
        shape = (len(wanted), *self._mean.shape[1:])
        mean, half = np.zeros(shape, np.float32), np.full(shape, self._band, np.float32)
        mean[inside] = self._mean[wanted[inside] - first]
        half[inside] = self._std[wanted[inside] - first] * self._band
        return mean, half

    def _slots(self, first_slot: int, raw: Float64, parts: Float32, mean: Float32, half: Float32) -> ScoredSlots:
        normaliser, scored = self.normaliser, self.normaliser.scored
        shape = (len(raw), self.channels)
        expected = np.broadcast_to(normaliser.centre, shape).astype(np.float32)
        lower = np.broadcast_to(normaliser.low, shape).astype(np.float32)
        upper = np.broadcast_to(normaliser.high, shape).astype(np.float32)
        if self._residuals:
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
