"""The running state of one series inside a memory scorer, and how windows of several become scores of slots at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.ports import ScoredSlots, Window
from stream_ad_models.block_imputer import Imputed
from stream_ad_models.flags import FlagTrack
from stream_ad_models.forecast import LAGS, forecast_errors
from stream_ad_models.head import Head, attribution
from stream_ad_models.memory import Reading
from stream_ad_models.normaliser import Normaliser
from stream_ad_models.point_error import PointTrack, point_values, push_points
from stream_ad_models.tracks import Track, push_alike

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["ERROR_CLIP", "ForecastState", "ImputedState", "MemorySession", "Run", "take_alike"]

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


class MemorySession:
    """Rings of the memories and of the imputed rows; rebuilt from rows alone."""

    def __init__(
        self,
        normaliser: Normaliser,
        head: Head,
        signal: Track,
        imputed: ImputedState | None,
        forecasts: ForecastState | None,
        flags: FlagTrack | None,
    ) -> None:
        self.normaliser = normaliser
        self.head, self.signal, self.imputed, self.forecasts = head, signal, imputed, forecasts
        self.flags = flags
        self.hop = signal.hop
        self.context = imputed.context_blocks if imputed else 0
        self.next_end: int | None = None
        self._scored = normaliser.scored.tobytes()
        scored = int(normaliser.scored.sum())
        self.mean = self.std = np.empty((0, self.hop, scored), np.float32)

    @property
    def channels(self) -> int:
        return len(self.normaliser.centre)

    @property
    def shape(self) -> tuple[object, ...]:
        """What the profile alone decides: sessions of one shape may begin together."""
        tracks = [self.signal, *(self.imputed.tracks if self.imputed else ())]
        return (self._scored, *(len(memory.lengths) for track in tracks for memory in track.memories))

    @property
    def likeness(self) -> tuple[object, ...]:
        """Sessions of one likeness may go on together."""
        tracks = [self.signal, *(self.imputed.tracks if self.imputed else ())]
        points = [part.point.likeness for part in (self.imputed, self.forecasts) if part is not None]
        return (self.shape, len(self.mean), *(track.likeness for track in tracks), *points)

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
        self.mean = self.std = self.mean[:0]
        self.next_end = end_slot


@dataclass(frozen=True, slots=True)
class Run:
    """Windows of one session one hop apart. Where the first does not follow the session's last one it stands alone."""

    session: MemorySession
    windows: Sequence[Window]

    @property
    def fresh(self) -> bool:
        return self.session.next_end != self.windows[0].end_slot

    @property
    def likeness(self) -> tuple[object, ...]:
        """Runs of the same likeness may be taken together."""
        told = [(each.emit_from - each.end_slot, each.emit_to - each.end_slot) for each in self.windows]
        return (self.fresh, self.session.shape if self.fresh else self.session.likeness, *told)


def take_alike(runs: Sequence[Run], z_all: Float32, imputed: Sequence[Imputed]) -> list[list[ScoredSlots]]:
    """Scores of the windows of runs of one likeness.

    z_all: float32 [run, window, steps, channel] z-scores; imputed: one per grating, its windows run by run.
    """
    one, hop = runs[0].session, runs[0].session.hop
    sessions, count = [run.session for run in runs], len(runs[0].windows)
    scored = one.normaliser.scored
    z = z_all if scored.all() else z_all[..., scored]
    for run in runs:
        if (run.windows[0].end_slot + 1) % hop:
            end = run.windows[0].end_slot
            raise DataError(f"window: expected an end one before a multiple of {hop}, found slot {end}")
    rows = z[:, :, -hop:].reshape(len(runs), count * hop, z.shape[3])
    if runs[0].fresh:
        for run in runs:
            run.session.clear(run.windows[0].end_slot, z.shape[2] // hop)
        rows = np.concatenate([z[:, 0, :-hop], rows], axis=1)
    readings = [push_alike([each.signal for each in sessions], rows)]
    if one.imputed is not None:
        readings += _push_imputed([each.imputed for each in sessions if each.imputed is not None], z, imputed, hop)
    if one.forecasts is not None:
        _push_forecasts([each.forecasts for each in sessions if each.forecasts is not None], z, hop)
    for each, windows in zip(sessions, z_all, strict=True):
        if each.flags is not None:
            each.flags.push(windows[..., ~scored])
    mean, std = _expected_rows(sessions, imputed, count)
    for run in runs:
        run.session.next_end = run.windows[-1].end_slot + hop
    out = _Telling(sessions, readings, mean, std).tell([run.windows for run in runs])
    _trim(sessions, mean, std)
    return out


def _push_imputed(
    parts: Sequence[ImputedState], z: Float32, imputed: Sequence[Imputed], hop: int
) -> list[list[Reading]]:
    shape = (*z.shape[:2], hop, z.shape[3])
    stop = z.shape[2] - parts[0].context_blocks * hop
    own, out = z[:, :, stop - hop : stop], []
    for number, each in enumerate(imputed):
        scale = np.stack([part.scales[number] for part in parts])[:, None, None]
        error = (own - each.mean.reshape(shape)) / scale
        clipped = np.clip(error, -ERROR_CLIP, ERROR_CLIP).reshape(shape[0], -1, shape[3])
        out.append(push_alike([part.tracks[number] for part in parts], clipped))
    push_points([part.point for part in parts], error)
    return out


def _push_forecasts(parts: Sequence[ForecastState], z: Float32, hop: int) -> None:
    coefficients = np.stack([part.coefficients for part in parts])[:, None]
    spread = np.stack([part.spread for part in parts])[:, None, None]
    # The lags, and as many again in which a missing reading may find the one before it.
    wide = z[:, :, -(hop + 2 * LAGS) :].astype(np.float64)
    errors = forecast_errors(wide, coefficients, hop)
    errors /= spread
    push_points([part.point for part in parts], errors.astype(np.float32))


def _expected_rows(
    sessions: Sequence[MemorySession], imputed: Sequence[Imputed], windows: int
) -> tuple[Float32, Float32]:
    """Imputed means and deviations that are still known, the new ones behind them: [session, block, hop, channel]."""
    mean, std = np.stack([each.mean for each in sessions]), np.stack([each.std for each in sessions])
    if not imputed:
        return mean, std
    shape = (len(sessions), windows, *mean.shape[2:])
    return (
        np.concatenate([mean, imputed[-1].mean.reshape(shape)], axis=1),
        np.concatenate([std, imputed[-1].std.reshape(shape)], axis=1),
    )


def _trim(sessions: Sequence[MemorySession], mean: Float32, std: Float32) -> None:
    """Keeps what later slots need, as copies: a view would hold what all the sessions share."""
    for at, session in enumerate(sessions):
        session.mean, session.std = mean[at, -_KEPT_BLOCKS:].copy(), std[at, -_KEPT_BLOCKS:].copy()
        if session.imputed is not None:
            session.imputed.point.trim()
        if session.forecasts is not None:
            session.forecasts.point.trim()
        if session.flags is not None:
            session.flags.trim()


@dataclass(frozen=True, slots=True)
class _Telling:
    """What is known of sessions of one likeness once their windows are in, [session, ...] throughout.

    readings: per track (the signal's, then one per grating) and memory. mean, std: as `_expected_rows` returns them.
    """

    sessions: Sequence[MemorySession]
    readings: Sequence[Sequence[Reading]]
    mean: Float32
    std: Float32

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
        raw = Head.stacked([each.head for each in self.sessions]).raw(values).reshape(-1, rows)
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
        weights = np.stack([each.head.weights for each in self.sessions]).astype(np.float32)[..., None, None, None]
        values: list[Float64] = []
        parts: Float32 | None = None
        for (track, until), readings in zip(tracks, self.readings, strict=True):
            for placement, reading in zip(track.placements, readings, strict=True):
                around = placement.gather(reading, wanted, track.next_block - len(reading), until)
                part = weights[:, len(values)] * placement.parts(around)
                parts = part if parts is None else np.add(parts, part, out=parts)
                values.append(placement.values(around))
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
