"""What sessions of one likeness say of their slots, once their windows are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.ports import ScoredSlots, Window
from stream_ad_models.memory.distances import MemoryDistance
from stream_ad_models.scorer.combine import ScoreCombiner, attribution
from stream_ad_models.scorer.point_error import point_values
from stream_ad_models.scorer.session import MemorySession

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["SlotScores"]


@dataclass(frozen=True, slots=True)
class SlotScores:
    """What is known of sessions of one likeness once their windows are in, [session, ...] throughout.

    readings: per track (the signal's, then one per grating) and memory. mean, std: of the imputed rows that are still
    known, float16 [session, block, hop, channel].
    """

    sessions: Sequence[MemorySession]
    readings: Sequence[Sequence[MemoryDistance]]
    mean: NDArray[np.float16]
    std: NDArray[np.float16]

    def tell(self, windows: Sequence[Sequence[Window]]) -> list[list[ScoredSlots]]:
        """All slots at once: `wanted` blocks, each looking no further than its own window's end. Blocks are numbered
        as the first session does."""
        one, hop = self.sessions[0], self.sessions[0].hop
        own = windows[0]
        spans = [range(w.emit_from // hop, -(-w.emit_to // hop) if w.emit_to > w.emit_from else 0) for w in own]
        wanted = np.array([block for span in spans for block in span], np.int64)
        known = np.repeat([(w.end_slot + 1) // hop - 1 for w in own], [len(span) for span in spans])
        rows = len(wanted) * hop
        if not rows:
            return [[_nothing(each, one.channels) for each in its] for its in windows]
        values, parts = self._maps(wanted, known)
        raw = ScoreCombiner.stacked([each.combiner for each in self.sessions]).raw(values).reshape(-1, rows)
        bands = self._bands(*self._expected(wanted, known - one.context, (own[-1].end_slot + 1) // hop - 1))
        shown = one.normaliser.scored if one.flags is None else np.ones(one.channels, np.bool_)
        shares = attribution(parts.reshape(-1, parts.shape[3]), shown).reshape(-1, rows, one.channels)
        out: list[list[ScoredSlots]] = [[] for _ in windows]
        at = 0
        for number, (first, span) in enumerate(zip(own, spans, strict=True)):
            begin = at + (first.emit_from - span.start * hop if span else 0)
            here = slice(begin, begin + max(first.emit_to - first.emit_from, 0))
            at += len(span) * hop
            for series, its in enumerate(windows):
                expected, lower, upper = (each[series, here] for each in bands)
                told = ScoredSlots(
                    its[number].emit_from, raw[series, here], expected, lower, upper, shares[series, here]
                )
                out[series].append(told)
        return out

    def _maps(self, wanted: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[list[Float64], Float32]:
        """Every map's values [session, n, hop] in the order of `fit`, and what the memories lay to each scored channel
        [session, n, hop, channel]; with flags, to all channels."""
        one = self.sessions[0]
        tracks = [(one.signal, known)]
        if one.imputed is not None:
            tracks += [(each, known - one.context) for each in one.imputed.tracks]
        weights = np.stack([each.combiner.weights for each in self.sessions]).astype(np.float32)[..., None, None, None]
        values: list[Float64] = []
        parts: Float32 | None = None
        for (track, until), readings in zip(tracks, self.readings, strict=True):
            for alignment, reading in zip(track.alignments, readings, strict=True):
                around = alignment.gather(reading, wanted, track.next_block - len(reading), until)
                part = weights[:, len(values)] * alignment.parts(around)
                parts = part if parts is None else np.add(parts, part, out=parts)
                values.append(alignment.values(around))
        if one.imputed is not None:
            points = [each.imputed.point for each in self.sessions if each.imputed is not None]
            values.append(point_values(points, wanted, known - one.context))
        if one.forecasts is not None:
            points = [each.forecasts.point for each in self.sessions if each.forecasts is not None]
            values.append(point_values(points, wanted, known))
        assert parts is not None
        if one.flags is not None:
            said, own = self._flags(one.flags.next_block, wanted, known)
            every = np.zeros((*parts.shape[:3], one.channels), np.float32)
            every[..., one.normaliser.scored] = parts
            every[..., ~one.normaliser.scored] = weights[:, len(values)] * own
            values.append(said)
            parts = every
        return values, parts

    def _flags(self, next_block: int, wanted: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[Float64, Float32]:
        """What flags say [session, n, hop] and each one's part [session, n, hop, flag]."""
        tracks = [each.flags for each in self.sessions if each.flags is not None]
        apart = [track.next_block - next_block for track in tracks]  # each session numbers its blocks itself
        told = [track.values(wanted + by, known + by) for track, by in zip(tracks, apart, strict=True)]
        return np.stack([values for values, _ in told]), np.stack([parts for _, parts in told])

    def _expected(self, wanted: NDArray[np.int64], known: NDArray[np.int64], last: int) -> tuple[Float32, Float32]:
        """Imputed mean and band's half-width in z-scores [session, n * hop, scored]; 0 and one deviation where none is
        in. last: the block that the last window ends with."""
        one = self.sessions[0]
        first = last - one.context + 1 - self.mean.shape[1]
        inside = (wanted >= first) & (wanted <= known)
        shape = (len(self.sessions), len(wanted), *self.mean.shape[2:])
        mean, half = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        mean[:, inside] = self.mean[:, wanted[inside] - first]
        half[:, inside] = self.std[:, wanted[inside] - first]
        if one.imputed is not None:
            half *= np.stack([each.imputed.bands for each in self.sessions if each.imputed is not None])[:, None, None]
        flat = (shape[0], -1, shape[3])
        return mean.reshape(flat), half.reshape(flat)

    def _bands(self, mean: Float32, half: Float32) -> tuple[Float32, Float32, Float32]:
        """expected, lower and upper in the units of the input, float32 [session, slot, channel]."""
        normalisers = [each.normaliser for each in self.sessions]
        centre, scale, low, high, constant = (
            np.stack([getattr(each, name) for each in normalisers])[:, None]
            for name in ("centre", "scale", "low", "high", "constant")
        )
        shape = (*mean.shape[:2], centre.shape[2])
        expected, lower, upper = (np.broadcast_to(each, shape).astype(np.float32) for each in (centre, low, high))
        if self.sessions[0].imputed is not None:
            scored = normalisers[0].scored
            moving = ~constant[..., scored]  # a constant's expected value is the constant
            for told, z in ((expected, mean), (lower, mean - half), (upper, mean + half)):
                restored = z * scale[..., scored] + centre[..., scored]
                told[..., scored] = np.where(moving, restored, told[..., scored])
        return expected, lower, upper


def _nothing(window: Window, channels: int) -> ScoredSlots:
    empty = np.empty((0, channels), np.float32)
    return ScoredSlots(window.emit_from, np.empty(0), empty, empty, empty, empty)
