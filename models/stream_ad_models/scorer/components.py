"""The components of the default score: what each learns from a history, and the running state it opens over that.

signal: memories of the windows' levels, spectrum and shape. imputed: a memory of the imputer's errors, and these errors
point by point. forecast: errors of a forecast one step ahead, point by point. binary: surprise of binary channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ModelError
from stream_ad_models.imputer.block_imputer import BlockImputer, WindowImputer
from stream_ad_models.imputer.intervals import series_intervals
from stream_ad_models.memory.distances import MemoryDistance
from stream_ad_models.memory.features import LEVELS, FeatureSet
from stream_ad_models.memory.slot_alignment import SlotAlignment
from stream_ad_models.memory.tracker import MemoryState
from stream_ad_models.memory.window_memory import WindowMemory
from stream_ad_models.scorer.binary_channels import (
    BinaryChannelState,
    binary_ends,
    binary_states,
    held_out_surprise,
    step_surprise,
    surprise_smoother,
)
from stream_ad_models.scorer.forecast import fit_forecast, forecast_errors, held_out_errors
from stream_ad_models.scorer.normaliser import Normaliser
from stream_ad_models.scorer.point_error import PointError, PointErrorState
from stream_ad_models.scorer.session import ERROR_CLIP, ForecastState, ImputedState

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["BinaryComponent", "ForecastComponent", "ImputedComponent", "Learned", "SignalComponent"]

# Before the division by a component's fluctuation (combine.py). How they were chosen: ADR 22.
_WEIGHTS = {"levels": 0.7, "spectrum": 0.5, "shape": 0.5, "residual": 0.3, "point": 0.1}
_BINARY_WEIGHT = 0.2
# Times a power of the number of channels: the more there are, the less one of them counts in a distance.
_FORECAST_WEIGHT, _FORECAST_POWER = 0.2, 0.75
_BINARY_QUANTILE = 0.99  # surprise up to this quantile of the history counts as usual
_ERROR_FLOOR = 0.1  # in z-scores: smaller errors of the imputer are rounding
_FORECAST_FLOOR = 0.03
_COVERAGE = 0.9
_LONG_BLOCKS = 64  # of so long a history, the ends (imputed with half the context) are left out
_WINDOWS_PER_CALL = 512


@dataclass(frozen=True, slots=True)
class Learned:
    """arrays: for `open`. values: per component, held-out slot values of the history float64 [block, hop]; weights."""

    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    values: list[Float64] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def then(self, other: Learned) -> Learned:
        return Learned(self.arrays | other.arrays, self.values + other.values, self.weights + other.weights)

    def of_blocks(self, blocks: slice) -> Learned:
        return Learned(self.arrays, [each[blocks] for each in self.values], self.weights)


class SignalComponent:
    def __init__(
        self, feature_sets: Sequence[FeatureSet], hop: int, look_ahead: int, *, capacity: int, online_memory: bool
    ) -> None:
        """look_ahead: blocks that the delay allows after a slot's block."""
        self._feature_sets, self._hop, self._look_ahead = tuple(feature_sets), hop, look_ahead
        self._capacity, self._online_memory = capacity, online_memory
        self.needed = [f"signal.{each.name}.lengths" for each in self._feature_sets]

    def learn(self, z: Float32) -> Learned:
        """z: z-scores of the scored channels float32 [n, channel]."""
        learned = Learned()
        for each in self._feature_sets:
            memory, distances = WindowMemory.fit(each, z, self._hop, self._capacity)
            values = _held_out(memory, distances, self._look_ahead)
            learned = learned.then(Learned(memory.arrays(f"signal.{each.name}"), [values], [_WEIGHTS[each.name]]))
        return learned

    def open(self, arrays: Arrays) -> MemoryState:
        memories = [
            WindowMemory.from_arrays(each.name, arrays, f"signal.{each.name}", self._hop) for each in self._feature_sets
        ]
        return MemoryState(memories, self._look_ahead, online_memory=self._online_memory)


class ImputedComponent:
    def __init__(
        self,
        imputer: WindowImputer,
        stripes: Sequence[int],
        hop: int,
        look_ahead: int,
        *,
        context_blocks: int,
        capacity: int,
        online_memory: bool,
    ) -> None:
        """look_ahead: blocks that the delay allows; context_blocks: how many of these the imputer sees."""
        self._window, self._interval = imputer.window_steps, imputer.interval_factor(_COVERAGE)
        self._stripes, self._hop, self._context = tuple(stripes), hop, context_blocks
        self._levels = LEVELS.with_hop(hop)
        self._look_ahead = look_ahead - context_blocks
        self._capacity, self._online_memory = capacity, online_memory
        self.blocks = BlockImputer(imputer, hop, context_blocks * hop)
        self.needed = [*(f"residual.{stripe}.lengths" for stripe in stripes), "point.means", "point.bands"]

    def inner(self, blocks: int) -> slice:
        """Blocks of a history that were imputed with all of their context; all of a short history."""
        if blocks < _LONG_BLOCKS:
            return slice(0, blocks)
        return slice(self._window // self._hop - 1 - self._context, blocks - self._context)

    def learn(self, z: Float32, scored: Bool) -> Learned:
        """z: z-scores of all channels float32 [n, channel]; values are of the inner blocks alone."""
        inner = self.inner(len(z) // self._hop)
        rows = slice(inner.start * self._hop, inner.stop * self._hop)
        learned = Learned()
        for stripe in self._stripes:
            errors, std = (each[rows] for each in self._impute(z, scored, stripe))
            scale = _spread(errors, _ERROR_FLOOR)
            scaled = errors / scale
            clipped = np.clip(scaled, -ERROR_CLIP, ERROR_CLIP)
            memory, distances = WindowMemory.fit(self._levels, clipped, self._hop, self._capacity)
            arrays = {f"residual.{stripe}.spread": scale, **memory.arrays(f"residual.{stripe}")}
            values = _held_out(memory, distances, self._look_ahead)
            learned = learned.then(Learned(arrays, [values], [_WEIGHTS["residual"] / len(self._stripes)]))
        means = PointError.learn(scaled)
        intervals = series_intervals(errors / std, [self._interval], [_COVERAGE])[0].astype(np.float32)
        values = _slot_values(PointError(means, self._hop, self._look_ahead), scaled, self._hop)
        arrays = {"point.means": means, "point.bands": intervals}
        return learned.then(Learned(arrays, [values], [_WEIGHTS["point"]]))

    def open(self, arrays: Arrays) -> ImputedState:
        prefixes = [f"residual.{stripe}" for stripe in self._stripes]
        memories = [WindowMemory.from_arrays(LEVELS.name, arrays, prefix, self._hop) for prefix in prefixes]
        return ImputedState(
            [MemoryState([each], self._look_ahead, online_memory=self._online_memory) for each in memories],
            [np.asarray(arrays[f"{prefix}.spread"], np.float32) for prefix in prefixes],
            _point_state(arrays["point.means"], self._hop, self._look_ahead),
            self._context,
            np.asarray(arrays["point.bands"], np.float32),
        )

    def _impute(self, z: Float32, scored: Bool, stripe: int) -> tuple[Float32, Float32]:
        """Signed errors and predictive deviations in z-scores [n, scored channel], each block imputed as in a live
        session."""
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
            imputed = self.blocks.impute(windows, scored, stripe)
            readings = z[at * hop : stop * hop].reshape(-1, hop, z.shape[1])[:, :, scored]
            errors[at:stop], std[at:stop] = readings - imputed.mean, imputed.std
        return errors.reshape(-1, errors.shape[2]), std.reshape(-1, std.shape[2])


class ForecastComponent:
    needed = ("forecast.coefficients",)

    def __init__(self, hop: int, look_ahead: int) -> None:
        self._hop, self._look_ahead = hop, look_ahead

    def learn(self, z: Float32) -> Learned:
        """z: z-scores of the scored channels float32 [n, channel], n a multiple of the hop."""
        wide = z.astype(np.float64)
        coefficients = fit_forecast(wide)
        spread = _spread(forecast_errors(wide, coefficients).astype(np.float32), _FORECAST_FLOOR).astype(np.float64)
        errors = (held_out_errors(wide) / spread).astype(np.float32)
        means = PointError.learn(errors)
        arrays = {"forecast.coefficients": coefficients, "forecast.spread": spread, "forecast.means": means}
        values = _slot_values(PointError(means, self._hop, self._look_ahead), errors, self._hop)
        return Learned(dict(arrays), [values], [_FORECAST_WEIGHT * z.shape[1] ** _FORECAST_POWER])

    def open(self, arrays: Arrays) -> ForecastState:
        return ForecastState(
            np.asarray(arrays["forecast.coefficients"], np.float64),
            np.asarray(arrays["forecast.spread"], np.float64),
            _point_state(arrays["forecast.means"], self._hop, self._look_ahead),
        )


class BinaryComponent:
    def __init__(self, hop: int, look_ahead: int) -> None:
        self._hop, self._look_ahead = hop, look_ahead

    def learn(self, z: Float32, normaliser: Normaliser) -> Learned:
        """z: z-scores of all channels float32 [n, channel], n a multiple of the hop. Empty without binary channels."""
        if normaliser.scored.all():
            return Learned()
        states = binary_states(z[:, ~normaliser.scored], binary_ends(normaliser))
        smoother = surprise_smoother(states.shape[1], self._hop, self._look_ahead)
        values = _slot_values(smoother, np.sqrt(held_out_surprise(states)).astype(np.float32), self._hop)
        usual = np.quantile(values, _BINARY_QUANTILE)
        arrays = {"flags.steps": step_surprise(states), "flags.usual": np.array([usual])}
        return Learned(dict(arrays), [np.maximum(values, usual)], [_BINARY_WEIGHT])

    def open(self, arrays: Arrays, normaliser: Normaliser) -> BinaryChannelState | None:
        if normaliser.scored.all():
            return None
        if missing := [name for name in ("flags.steps", "flags.usual") if name not in arrays]:
            raise ModelError(f"profile: expected the steps of its binary channels, found no {missing[0]}")
        steps = np.asarray(arrays["flags.steps"], np.float64)
        return BinaryChannelState(normaliser, steps, float(arrays["flags.usual"][0]), self._hop, self._look_ahead)


def _held_out(memory: WindowMemory, distances: MemoryDistance, look_ahead: int) -> Float64:
    """Slot values [block, hop] of the history, each window compared with the other folds."""
    alignment = SlotAlignment.of(memory.lengths, memory.hop, look_ahead)
    blocks = np.arange(len(distances), dtype=np.int64)
    bare = MemoryDistance(distances.log_ratio, distances.shares[..., :0])
    return alignment.values(alignment.gather(bare, blocks, 0, np.full(len(blocks), len(blocks) - 1)))


def _slot_values(point: PointError, errors: Float32, hop: int) -> Float64:
    """Slot values [block, hop] of the history's errors [n, channel]."""
    state = PointErrorState(point, hop)
    state.push(errors.reshape(-1, hop, errors.shape[1]))
    blocks = np.arange(len(errors) // hop, dtype=np.int64)
    return state.values(blocks, np.full(len(blocks), len(blocks) - 1))


def _point_state(means: NDArray[np.generic], hop: int, look_ahead: int) -> PointErrorState:
    return PointErrorState(PointError(np.asarray(means, np.float64), hop, look_ahead), hop)


def _spread(rows: Float32, floor: float) -> Float32:
    """Standard deviation by channel [channel], floored; the floor where the history holds no reading."""
    present = ~np.isnan(rows)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, rows, 0.0).astype(np.float64)
    mean = values.sum(axis=0) / count
    variance = (np.square(values).sum(axis=0) / count) - mean**2
    return np.asarray(np.maximum(np.sqrt(np.maximum(variance, 0.0)), floor), np.float32)
