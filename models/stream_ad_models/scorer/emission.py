"""Scores of slots, emitted by sessions of one batch once their windows are pushed."""

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
Int64 = NDArray[np.int64]

__all__ = ["SlotScores"]


@dataclass(frozen=True, slots=True)
class SlotScores:
    """State of a batch of sessions after their windows are pushed, [session, ...] throughout.

    distances: per memory state (the signal's, then one per stripe mask) and memory. mean, std: the kept imputed rows,
    float16 [session, block, hop, channel].
    """

    sessions: Sequence[MemorySession]
    distances: Sequence[Sequence[MemoryDistance]]
    mean: NDArray[np.float16]
    std: NDArray[np.float16]

    def emit(self, windows: Sequence[Sequence[Window]]) -> list[list[ScoredSlots]]:
        """All slots at once: the `wanted` blocks, each using nothing after its own window's end. Blocks are numbered
        as the first session numbers them."""
        one, hop = self.sessions[0], self.sessions[0].hop
        own = windows[0]
        spans = [range(w.emit_from // hop, -(-w.emit_to // hop) if w.emit_to > w.emit_from else 0) for w in own]
        wanted = np.array([block for span in spans for block in span], np.int64)
        known = np.repeat([(w.end_slot + 1) // hop - 1 for w in own], [len(span) for span in spans])
        rows = len(wanted) * hop
        if not rows:
            return [[_no_slots(window, one.channels) for window in mine] for mine in windows]
        values, parts = self._components(wanted, known)
        raw = ScoreCombiner.stacked([each.combiner for each in self.sessions]).raw(values).reshape(-1, rows)
        intervals = self._intervals(*self._imputed(wanted, known - one.context, (own[-1].end_slot + 1) // hop - 1))
        shown = one.normaliser.scored if one.binary is None else np.ones(one.channels, np.bool_)
        shares = attribution(parts.reshape(-1, parts.shape[3]), shown).reshape(-1, rows, one.channels)
        out: list[list[ScoredSlots]] = [[] for _ in windows]
        at = 0
        for number, (first, span) in enumerate(zip(own, spans, strict=True)):
            begin = at + (first.emit_from - span.start * hop if span else 0)
            here = slice(begin, begin + max(first.emit_to - first.emit_from, 0))
            at += len(span) * hop
            for series, mine in enumerate(windows):
                expected, lower, upper = (each[series, here] for each in intervals)
                slots = raw[series, here], expected, lower, upper, shares[series, here]
                out[series].append(ScoredSlots(mine[number].emit_from, *slots))
        return out

    def _components(self, wanted: Int64, known: Int64) -> tuple[list[Float64], Float32]:
        """Every component's values [session, n, hop] in the order of `fit`, and each channel's part in the memories'
        [session, n, hop, channel]: scored channels, or all if some are binary."""
        one = self.sessions[0]
        untils = [known, *(known - one.context for _ in one.memory_states[1:])]
        weights = np.stack([each.combiner.weights for each in self.sessions]).astype(np.float32)[..., None, None, None]
        values: list[Float64] = []
        parts: Float32 | None = None
        for state, until, of_state in zip(one.memory_states, untils, self.distances, strict=True):
            for alignment, distances in zip(state.alignments, of_state, strict=True):
                around = alignment.gather(distances, wanted, state.next_block - len(distances), until)
                part = weights[:, len(values)] * alignment.parts(around)
                parts = part if parts is None else np.add(parts, part, out=parts)
                values.append(alignment.values(around))
        if one.imputed is not None:
            points = [each.imputed.point for each in self.sessions if each.imputed is not None]
            values.append(point_values(points, wanted, known - one.context))
        if one.forecast is not None:
            points = [each.forecast.point for each in self.sessions if each.forecast is not None]
            values.append(point_values(points, wanted, known))
        assert parts is not None
        if one.binary is not None:
            surprise, of_binary = self._binary(one.binary.next_block, wanted, known)
            every = np.zeros((*parts.shape[:3], one.channels), np.float32)
            every[..., one.normaliser.scored] = parts
            every[..., ~one.normaliser.scored] = weights[:, len(values)] * of_binary
            values.append(surprise)
            parts = every
        return values, parts

    def _binary(self, next_block: int, wanted: Int64, known: Int64) -> tuple[Float64, Float32]:
        """Surprise of the binary channels [session, n, hop] and each one's part [session, n, hop, channel]."""
        states = [each.binary for each in self.sessions if each.binary is not None]
        shifts = [state.next_block - next_block for state in states]  # each session numbers its blocks itself
        found = [state.values(wanted + by, known + by) for state, by in zip(states, shifts, strict=True)]
        return np.stack([values for values, _ in found]), np.stack([parts for _, parts in found])

    def _imputed(self, wanted: Int64, known: Int64, last: int) -> tuple[Float32, Float32]:
        """Imputed mean and half-width of the interval, z-scores [session, n * hop, scored]; 0 and one deviation for
        blocks that are not imputed. last: the block that the last window ends with."""
        one = self.sessions[0]
        first = last - one.context + 1 - self.mean.shape[1]
        inside = (wanted >= first) & (wanted <= known)
        shape = (len(self.sessions), len(wanted), *self.mean.shape[2:])
        mean, half = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        mean[:, inside] = self.mean[:, wanted[inside] - first]
        half[:, inside] = self.std[:, wanted[inside] - first]
        if one.imputed is not None:
            half *= np.stack([each.imputed.intervals for each in self.sessions if each.imputed])[:, None, None]
        flat = (shape[0], -1, shape[3])
        return mean.reshape(flat), half.reshape(flat)

    def _intervals(self, mean: Float32, half: Float32) -> tuple[Float32, Float32, Float32]:
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
            for out, z in ((expected, mean), (lower, mean - half), (upper, mean + half)):
                restored = z * scale[..., scored] + centre[..., scored]
                out[..., scored] = np.where(moving, restored, out[..., scored])
        return expected, lower, upper


def _no_slots(window: Window, channels: int) -> ScoredSlots:
    empty = np.empty((0, channels), np.float32)
    return ScoredSlots(window.emit_from, np.empty(0), empty, empty, empty, empty)
