"""Windows of several series at once: into their sessions, and scores of slots out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.ports import ScoredSlots, Window
from stream_ad_models.imputer.block_imputer import Imputed
from stream_ad_models.memory.distances import MemoryDistance
from stream_ad_models.memory.tracker import push_batch
from stream_ad_models.scorer.emission import SlotScores
from stream_ad_models.scorer.forecast import LAGS, forecast_errors
from stream_ad_models.scorer.point_error import push_points
from stream_ad_models.scorer.session import ERROR_CLIP, ForecastState, ImputedState, MemorySession

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]

__all__ = ["WindowRun", "advance_batch"]


@dataclass(frozen=True, slots=True)
class WindowRun:
    """Windows of one session one hop apart. Where the first does not follow the session's last one it stands alone."""

    session: MemorySession
    windows: Sequence[Window]

    @property
    def fresh(self) -> bool:
        return self.session.next_end != self.windows[0].end_slot

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Runs of the same likeness may be taken together."""
        told = [(each.emit_from - each.end_slot, each.emit_to - each.end_slot) for each in self.windows]
        return (self.fresh, self.session.shape if self.fresh else self.session.batch_key, *told)


def advance_batch(runs: Sequence[WindowRun], z_all: Float32, imputed: Sequence[Imputed]) -> list[list[ScoredSlots]]:
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
    readings = [push_batch([each.signal for each in sessions], rows)]
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
    out = SlotScores(sessions, readings, mean, std).tell([run.windows for run in runs])
    _trim(sessions, mean, std)
    return out


def _push_imputed(
    parts: Sequence[ImputedState], z: Float32, imputed: Sequence[Imputed], hop: int
) -> list[list[MemoryDistance]]:
    shape = (*z.shape[:2], hop, z.shape[3])
    stop = z.shape[2] - parts[0].context_blocks * hop
    own, out = z[:, :, stop - hop : stop], []
    for number, each in enumerate(imputed):
        scale = np.stack([part.scales[number] for part in parts])[:, None, None]
        error = (own - each.mean.reshape(shape)) / scale
        clipped = np.clip(error, -ERROR_CLIP, ERROR_CLIP).reshape(shape[0], -1, shape[3])
        out.append(push_batch([part.tracks[number] for part in parts], clipped))
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
) -> tuple[Float16, Float16]:
    """Imputed means and deviations that are still known, the new ones behind them: float16 [session, block, hop,
    channel]. Bands and expected values are told of them, no score."""
    mean, std = np.stack([each.mean.rows for each in sessions]), np.stack([each.std.rows for each in sessions])
    if not imputed:
        return mean, std
    shape = (len(sessions), windows, *mean.shape[2:])
    return (
        np.concatenate([mean, imputed[-1].mean.astype(np.float16).reshape(shape)], axis=1),
        np.concatenate([std, imputed[-1].std.astype(np.float16).reshape(shape)], axis=1),
    )


def _trim(sessions: Sequence[MemorySession], mean: Float16, std: Float16) -> None:
    """Keeps what later slots need: no slot before a window is told by it."""
    for at, session in enumerate(sessions):
        session.mean.keep(mean[at])
        session.std.keep(std[at])
        if session.imputed is not None:
            session.imputed.point.trim()
        if session.forecasts is not None:
            session.forecasts.point.trim()
        if session.flags is not None:
            session.flags.trim()
