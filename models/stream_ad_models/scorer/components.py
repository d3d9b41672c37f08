"""The three parts of the default score: what each learns of a history, and the running state it opens over that.

signal: memories of the signal's own windows (levels, spectrum, shape). imputed: a memory of what the imputer leaves
unexplained, and these errors point by point. forecast: the errors of a forecast one step ahead, point by point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ModelError
from stream_ad_models.imputer.block_imputer import BlockImputer, WindowImputer
from stream_ad_models.imputer.intervals import series_bands
from stream_ad_models.memory.distances import MemoryDistance
from stream_ad_models.memory.features import LEVELS, FeatureSet
from stream_ad_models.memory.slot_alignment import SlotAlignment
from stream_ad_models.memory.tracker import MemoryState
from stream_ad_models.memory.window_memory import WindowMemory
from stream_ad_models.scorer.binary_channels import (
    BinaryChannelState,
    flag_ends,
    flag_level,
    flag_states,
    held_out_surprise,
    step_surprise,
)
from stream_ad_models.scorer.forecast import fit_forecast, forecast_errors, held_out_errors
from stream_ad_models.scorer.normaliser import Normaliser
from stream_ad_models.scorer.point_error import PointError, PointErrorState
from stream_ad_models.scorer.session import ERROR_CLIP, ForecastState, ImputedState

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["BinaryComponent", "ForecastComponent", "ImputedComponent", "Learned", "SignalComponent"]

# Of each map before it is set against its own fluctuation (head.py). Halved or doubled, alone or together, they move
# the mean over data sets by .01 at most.
_WEIGHTS = {"levels": 0.7, "spectrum": 0.5, "shape": 0.5, "residual": 0.3, "point": 0.1}
# Of the forecast, times a power of the number of channels: the more there are, the less a distance sees of one.
# Powers .5, .75, 1: SMD .464 .491 .502, JumpStarter .504 .491 .479 (VUS-PR).
_FORECAST_WEIGHT, _FORECAST_POWER = 0.2, 0.75
# Of the flags' surprise. More of it costs where flags change for reasons of their own: 1.0 took the SMAP series outside
# the published benchmark from .829 to .788 (VUS-PR).
_FLAG_WEIGHT = 0.2
_FLAG_QUANTILE = 0.99  # what flags usually do says nothing, however seldom it is less
_ERROR_FLOOR = 0.1  # in z-scores: finer errors of the imputer are not told from rounding
_FORECAST_FLOOR = 0.03
_COVERAGE = 0.9
_EDGE_BLOCKS = 64  # with this much history, its ends (imputed with half the context) can be left out
_WINDOWS_PER_CALL = 512


@dataclass(frozen=True, slots=True)
class Learned:
    """arrays: for `open`. values: per map, held-out slot values of the history float64 [block, hop], and its weight."""

    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    values: list[Float64] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def then(self, other: Learned) -> Learned:
        return Learned(self.arrays | other.arrays, self.values + other.values, self.weights + other.weights)

    def of_blocks(self, blocks: slice) -> Learned:
        return Learned(self.arrays, [each[blocks] for each in self.values], self.weights)


class SignalComponent:
    def __init__(self, families: Sequence[FeatureSet], hop: int, ahead: int, *, capacity: int, grows: bool) -> None:
        """ahead: blocks that the delay lets in after a slot's own."""
        self._families, self._hop, self._ahead = tuple(families), hop, ahead
        self._capacity, self._grows = capacity, grows

    def learn(self, z: Float32) -> Learned:
        """z: z-scores of the scored channels float32 [n, channel]."""
        learned = Learned()
        for family in self._families:
            memory, reading = WindowMemory.fit(family, z, self._hop, self._capacity)
            values = _held_out(memory, reading, self._ahead)
            arrays = memory.arrays(f"signal.{family.name}")
            learned = learned.then(Learned(arrays, [values], [_WEIGHTS[family.name]]))
        return learned

    def needed(self) -> list[str]:
        return [f"signal.{family.name}.lengths" for family in self._families]

    def open(self, arrays: Arrays) -> MemoryState:
        memories = [
            WindowMemory.from_arrays(family.name, arrays, f"signal.{family.name}", self._hop)
            for family in self._families
        ]
        return MemoryState(memories, self._ahead, grows=self._grows)


class ImputedComponent:
    def __init__(
        self,
        imputer: WindowImputer,
        stripes: Sequence[int],
        hop: int,
        ahead: int,
        *,
        context_blocks: int,
        capacity: int,
        grows: bool,
    ) -> None:
        """ahead: blocks that the delay lets in; context_blocks: how many of these the imputer sees."""
        self._window, self._band = imputer.window_steps, imputer.band_factor(_COVERAGE)
        self._stripes, self._hop, self._context = tuple(stripes), hop, context_blocks
        self._family = LEVELS.with_hop(hop)
        self._ahead = ahead - context_blocks
        self._capacity, self._grows = capacity, grows
        self.blocks = BlockImputer(imputer, hop, context_blocks * hop)

    def inner(self, blocks: int) -> slice:
        """Blocks of a history that were imputed with all of their context; all of a short history."""
        if blocks < _EDGE_BLOCKS:
            return slice(0, blocks)
        return slice(self._window // self._hop - 1 - self._context, blocks - self._context)

    def learn(self, z: Float32, scored: NDArray[np.bool_]) -> Learned:
        """z: z-scores of all channels float32 [n, channel]; values are of the inner blocks alone."""
        inner = self.inner(len(z) // self._hop)
        rows = slice(inner.start * self._hop, inner.stop * self._hop)
        learned = Learned()
        for stripe in self._stripes:
            errors, std = (each[rows] for each in self._impute(z, scored, stripe))
            scale = _spread(errors, _ERROR_FLOOR)
            scaled = errors / scale
            clipped = np.clip(scaled, -ERROR_CLIP, ERROR_CLIP)
            memory, reading = WindowMemory.fit(self._family, clipped, self._hop, self._capacity)
            arrays = {f"residual.{stripe}.spread": scale, **memory.arrays(f"residual.{stripe}")}
            values = _held_out(memory, reading, self._ahead)
            learned = learned.then(Learned(arrays, [values], [_WEIGHTS["residual"] / len(self._stripes)]))
        means = PointError.learn(scaled)
        bands = series_bands(errors / std, [self._band], [_COVERAGE])[0].astype(np.float32)
        values = _point_values(scaled, means, self._hop, self._ahead)
        arrays = {"point.means": means, "point.bands": bands}
        return learned.then(Learned(arrays, [values], [_WEIGHTS["point"]]))

    def needed(self) -> list[str]:
        return [*(f"residual.{stripe}.lengths" for stripe in self._stripes), "point.means", "point.bands"]

    def open(self, arrays: Arrays) -> ImputedState:
        memories = [
            WindowMemory.from_arrays(LEVELS.name, arrays, f"residual.{stripe}", self._hop) for stripe in self._stripes
        ]
        return ImputedState(
            [MemoryState([memory], self._ahead, grows=self._grows) for memory in memories],
            [np.asarray(arrays[f"residual.{stripe}.spread"], np.float32) for stripe in self._stripes],
            PointErrorState(
                PointError(np.asarray(arrays["point.means"], np.float64), self._hop, self._ahead), self._hop
            ),
            self._context,
            np.asarray(arrays["point.bands"], np.float32),
        )

    def _impute(self, z: Float32, scored: NDArray[np.bool_], stripe: int) -> tuple[Float32, Float32]:
        """Signed errors and predictive deviations in z-scores [n, scored channel], each block seen as a live session
        sees it."""
        hop, context = self._hop, self._context * self._hop
        before, after = np.full((self._window - hop, z.shape[1]), np.nan), np.full((context, z.shape[1]), np.nan)
        padded = np.concatenate([before, z, after]).astype(np.float32)
        blocks = len(z) // hop
        errors = np.empty((blocks, hop, int(scored.sum())), np.float32)
        std = np.empty_like(errors)
        view = np.lib.stride_tricks.sliding_window_view(padded, self._window, axis=0)[::hop].transpose(0, 2, 1)
        for at in range(0, blocks, _WINDOWS_PER_CALL):
            stop = min(at + _WINDOWS_PER_CALL, blocks)
            windows = np.ascontiguousarray(view[at + self._context : stop + self._context])
            [imputed] = self.blocks.impute([(windows, scored)], stripe)
            own = z[at * hop : stop * hop].reshape(-1, hop, z.shape[1])[:, :, scored]
            errors[at:stop], std[at:stop] = own - imputed.mean, imputed.std
        return errors.reshape(-1, errors.shape[2]), std.reshape(-1, std.shape[2])


class ForecastComponent:
    def __init__(self, hop: int, ahead: int) -> None:
        self._hop, self._ahead = hop, ahead

    def learn(self, z: Float32) -> Learned:
        """z: z-scores of the scored channels float32 [n, channel], n a multiple of the hop."""
        wide = z.astype(np.float64)
        coefficients = fit_forecast(wide)
        spread = _spread(forecast_errors(wide, coefficients).astype(np.float32), _FORECAST_FLOOR).astype(np.float64)
        errors = (held_out_errors(wide) / spread).astype(np.float32)
        means = PointError.learn(errors)
        arrays = {"forecast.coefficients": coefficients, "forecast.spread": spread, "forecast.means": means}
        values = _point_values(errors, means, self._hop, self._ahead)
        return Learned(dict(arrays), [values], [_FORECAST_WEIGHT * z.shape[1] ** _FORECAST_POWER])

    def needed(self) -> list[str]:
        return ["forecast.coefficients"]

    def open(self, arrays: Arrays) -> ForecastState:
        point = PointError(np.asarray(arrays["forecast.means"], np.float64), self._hop, self._ahead)
        return ForecastState(
            np.asarray(arrays["forecast.coefficients"], np.float64),
            np.asarray(arrays["forecast.spread"], np.float64),
            PointErrorState(point, self._hop),
        )


class BinaryComponent:
    def __init__(self, hop: int, ahead: int) -> None:
        self._hop, self._ahead = hop, ahead

    def learn(self, z: Float32, normaliser: Normaliser) -> Learned:
        """z: z-scores of all channels float32 [n, channel], n a multiple of the hop. Nothing where there is no flag."""
        if normaliser.scored.all():
            return Learned()
        states = flag_states(z[:, ~normaliser.scored], flag_ends(normaliser))
        level = flag_level(states.shape[1], self._hop, self._ahead)
        values = _placed(level, np.sqrt(held_out_surprise(states)).astype(np.float32), self._hop)
        usual = np.quantile(values, _FLAG_QUANTILE)
        arrays = {"flags.steps": step_surprise(states), "flags.usual": np.array([usual])}
        return Learned(dict(arrays), [np.maximum(values, usual)], [_FLAG_WEIGHT])

    def open(self, arrays: Arrays, normaliser: Normaliser) -> BinaryChannelState | None:
        if normaliser.scored.all():
            return None
        if missing := [name for name in ("flags.steps", "flags.usual") if name not in arrays]:
            raise ModelError(f"profile: expected what its flags do, found no {missing[0]}")
        steps = np.asarray(arrays["flags.steps"], np.float64)
        return BinaryChannelState(normaliser, steps, float(arrays["flags.usual"][0]), self._hop, self._ahead)


def _held_out(memory: WindowMemory, reading: MemoryDistance, ahead: int) -> Float64:
    """Slot values [block, hop] of the history, each window read against the other folds."""
    alignment = SlotAlignment.of(memory.lengths, memory.hop, ahead)
    blocks = np.arange(len(reading), dtype=np.int64)
    bare = MemoryDistance(reading.log_ratio, reading.shares[..., :0])
    return alignment.values(alignment.gather(bare, blocks, 0, np.full(len(blocks), len(blocks) - 1)))


def _point_values(errors: Float32, means: Float64, hop: int, ahead: int) -> Float64:
    """Slot values [block, hop] of the history's errors [n, channel]."""
    return _placed(PointError(means, hop, ahead), errors, hop)


def _placed(point: PointError, errors: Float32, hop: int) -> Float64:
    track = PointErrorState(point, hop)
    track.push(errors.reshape(-1, hop, errors.shape[1]))
    blocks = np.arange(len(errors) // hop, dtype=np.int64)
    return track.values(blocks, np.full(len(blocks), len(blocks) - 1))


def _spread(rows: Float32, floor: float) -> Float32:
    """Standard deviation by channel [channel], floored; 1 where the history holds no reading."""
    present = ~np.isnan(rows)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, rows, 0.0).astype(np.float64)
    mean = values.sum(axis=0) / count
    variance = (np.square(values).sum(axis=0) / count) - mean**2
    return np.asarray(np.maximum(np.sqrt(np.maximum(variance, 0.0)), floor), np.float32)
