"""Windows of several series in one batch: into their sessions, and scores of slots out of them."""

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
    """Windows of one session, one hop apart. A first one that does not follow the session's last window is alone."""

    session: MemorySession
    windows: Sequence[Window]

    @property
    def fresh(self) -> bool:
        return self.session.next_end != self.windows[0].end_slot

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Runs with the same key may be scored in one batch."""
        spans = [(each.emit_from - each.end_slot, each.emit_to - each.end_slot) for each in self.windows]
        return (self.fresh, self.session.shape if self.fresh else self.session.batch_key, *spans)


def advance_batch(runs: Sequence[WindowRun], z_all: Float32, imputed: Sequence[Imputed]) -> list[list[ScoredSlots]]:
    """Scores of the windows of runs with the same batch key.

    z_all: float32 [run, window, steps, channel] z-scores; imputed: one per stripe mask, its windows run by run.
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
    distances = [push_batch([each.signal for each in sessions], rows)]
    if one.imputed is not None:
        distances += _push_imputed([each.imputed for each in sessions if each.imputed is not None], z, imputed, hop)
    if one.forecast is not None:
        _push_forecast([each.forecast for each in sessions if each.forecast is not None], z, hop)
    for each, windows in zip(sessions, z_all, strict=True):
        if each.binary is not None:
            each.binary.push(windows[..., ~scored])
    mean, std = _imputed_rows(sessions, imputed, count)
    for run in runs:
        run.session.next_end = run.windows[-1].end_slot + hop
    out = SlotScores(sessions, distances, mean, std).emit([run.windows for run in runs])
    for at, session in enumerate(sessions):  # later slots need no more
        session.mean.keep(mean[at])
        session.std.keep(std[at])
        session.trim()
    return out


def _push_imputed(
    states: Sequence[ImputedState], z: Float32, imputed: Sequence[Imputed], hop: int
) -> list[list[MemoryDistance]]:
    shape = (*z.shape[:2], hop, z.shape[3])
    stop = z.shape[2] - states[0].context_blocks * hop
    readings, out = z[:, :, stop - hop : stop], []
    for number, each in enumerate(imputed):
        scale = np.stack([state.scales[number] for state in states])[:, None, None]
        error = (readings - each.mean.reshape(shape)) / scale
        clipped = np.clip(error, -ERROR_CLIP, ERROR_CLIP).reshape(shape[0], -1, shape[3])
        out.append(push_batch([state.memories[number] for state in states], clipped))
    push_points([state.point for state in states], error)
    return out


def _push_forecast(states: Sequence[ForecastState], z: Float32, hop: int) -> None:
    coefficients = np.stack([state.coefficients for state in states])[:, None]
    spread = np.stack([state.spread for state in states])[:, None, None]
    # The lags, and as many again, in which the reading before a missing one can be found.
    wide = z[:, :, -(hop + 2 * LAGS) :].astype(np.float64)
    errors = forecast_errors(wide, coefficients, hop)
    errors /= spread
    push_points([state.point for state in states], errors.astype(np.float32))


def _imputed_rows(
    sessions: Sequence[MemorySession], imputed: Sequence[Imputed], windows: int
) -> tuple[Float16, Float16]:
    """The kept imputed means and deviations and the new ones behind them, float16 [session, block, hop, channel]; for
    expected values and prediction intervals, not for scores."""
    mean, std = np.stack([each.mean.rows for each in sessions]), np.stack([each.std.rows for each in sessions])
    if not imputed:
        return mean, std
    shape = (len(sessions), windows, *mean.shape[2:])
    return (
        np.concatenate([mean, imputed[-1].mean.astype(np.float16).reshape(shape)], axis=1),
        np.concatenate([std, imputed[-1].std.astype(np.float16).reshape(shape)], axis=1),
    )
