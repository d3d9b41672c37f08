"""The product's scorers: memories of the signal and of what a diffusion imputer leaves unexplained.

Every reading of a window is imputed from the others under complementary gratings; the signed errors and the signal
itself are read, at several lengths, against memories of the series' own normal windows (memory.py, head.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError, DataError, ModelError
from stream_ad.ports import Fitted, ScoredSlots, Session, Window
from stream_ad_models.block_imputer import BlockImputer, WindowImputer
from stream_ad_models.head import Head, Placement
from stream_ad_models.imputer import UniversalImputer
from stream_ad_models.memory import Reading, WindowMemory
from stream_ad_models.normaliser import Normaliser
from stream_ad_models.point_error import BACK_STEPS, PointError
from stream_ad_models.sessions import RESIDUAL_CLIP, MemorySession
from stream_ad_models.tracks import Track
from stream_ad_models.window_stats import check_lengths

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["ImputationScorer", "MemoryScorer"]

WINDOW_STEPS = 128
HOP_STEPS = 16
LENGTHS = (16, 32, 64, 128, 256)
CAPACITY = 1024
_FORMAT = 2
_COVERAGE = 0.9
_NORMAL_BAND = 1.645
_RESIDUAL_FLOOR = 0.1  # in z-scores: finer errors are not told from rounding (accuracy: the same as with .03)
_UNSEEN = 2.0  # normal rows over a threshold of 1 a week, 128 rows of history: 17% without it, 4% with; 512: 1.6%, .4%
# Of the error point by point; a memory has 1/2. Without it .797 instead of .801, the other sets .645 and .602 instead
# of .656 and .604; with twice the weight the latter fall.
_POINT_WEIGHT = 0.1
_WINDOWS_PER_CALL = 512
_EDGE_BLOCKS = 64  # with this much history, its ends (imputed with half the context) can be left out


class ImputationScorer:
    """Scorer over the imputer's errors and the signal. Thread-safe but for its sessions.

    delay_steps: later slots a slot waits for (a multiple of the hop; a slot waits up to hop_steps - 1 more);
    context_steps: how many of these the imputer sees; gratings: widths of the gratings, the last one gives the
    expected values; capacity: windows stored of each length.

    Mean VUS-PR on the 25 series of the published benchmark by delay: 0 .662, 16 .767, 32 .801, 48 .816, 64 .820
    (benchmarks/accuracy.py). Other lengths, gratings of 1 or 32 steps beside or instead of 16, hop 8 and 3 times the
    capacity move it, or the other labelled series, by .02 at most, none of them both up.
    """

    def __init__(
        self,
        imputer: WindowImputer | None,
        *,
        hop_steps: int = HOP_STEPS,
        delay_steps: int = 32,
        context_steps: int = 16,
        gratings: Sequence[int] = (16,),
        lengths: Sequence[int] = LENGTHS,
        capacity: int = CAPACITY,
    ) -> None:
        self._imputer = imputer
        self._gratings = tuple(gratings) if imputer is not None else ()
        self._window = imputer.window_steps if imputer is not None else WINDOW_STEPS
        check_lengths(lengths, hop_steps)
        if self._window % hop_steps:
            raise ConfigError(f"hop_steps: expected a divisor of the window's {self._window}, found {hop_steps}")
        bound = self._window - hop_steps
        for word, steps, most in (("delay_steps", delay_steps, bound), ("context_steps", context_steps, delay_steps)):
            if steps % hop_steps or not 0 <= steps <= most:
                raise ConfigError(f"{word}: expected a multiple of {hop_steps} from 0 to {most}, found {steps}")
        self._hop, self._delay, self._context = hop_steps, delay_steps, context_steps if self._gratings else 0
        self._lengths, self._capacity = tuple(lengths), capacity
        self._blocks = BlockImputer(imputer, hop_steps, self._context) if imputer is not None else None

    @property
    def name(self) -> str:
        if self._imputer is None:
            return "memory"
        return "universal" if isinstance(self._imputer, UniversalImputer) else "group"

    @property
    def version(self) -> str:
        model = self._imputer.version if self._imputer is not None else "none"
        gratings = ".".join(map(str, self._gratings)) or "none"
        return f"{_FORMAT}-{model}-h{self._hop}-d{self._delay}-c{self._context}-g{gratings}"

    @property
    def window_steps(self) -> int:
        return self._window

    @property
    def hop_steps(self) -> int:
        return self._hop

    @property
    def delay_steps(self) -> int:
        return self._delay

    @property
    def lookback_steps(self) -> int:
        """The delay, the oldest window a slot is placed by, and the imputer's view of that window's first row."""
        oldest = max(self._lengths[-1], BACK_STEPS)
        return self._delay + self._hop + oldest + self._window - self._context

    # ---- history

    def fit(self, history: Float32) -> Fitted:
        if history.ndim != 2 or len(history) < self._window:
            raise DataError(f"history: expected at least {self._window} rows, found shape {list(history.shape)}")
        normaliser = Normaliser.fit(history)
        z = normaliser.apply(history[len(history) % self._hop :])
        signal, reading = WindowMemory.fit(z[:, normaliser.scored], self._lengths, self._hop, self._capacity)
        arrays = {**normaliser.arrays(), **signal.arrays("signal")}
        values = [self._held_out(signal, reading, self._ahead)]
        blocks = len(z) // self._hop
        inner = slice(0, blocks)
        if self._gratings and blocks >= _EDGE_BLOCKS:
            inner = slice(
                self._window // self._hop - 1 - self._context // self._hop, blocks - self._context // self._hop
            )
        values[0] = values[0][inner]
        for grating in self._gratings:
            rows = self._residuals(z, normaliser.scored, grating)[inner.start * self._hop : inner.stop * self._hop]
            scale = _spread(rows)
            rows = np.clip(rows / scale, -RESIDUAL_CLIP, RESIDUAL_CLIP)
            memory, reading = WindowMemory.fit(rows, self._lengths, self._hop, self._capacity)
            values.append(self._held_out(memory, reading, self._ahead - self._context // self._hop))
            arrays |= {f"residual.{grating}.scale": scale, **memory.arrays(f"residual.{grating}")}
        weights = [1 / len(values)] * len(values)
        if self._gratings:
            means = PointError.learn(rows)
            arrays["point.means"] = means
            values.append(self._point_values(rows, means))
            weights.append(_POINT_WEIGHT)
        head = Head.fit(values, weights)
        # A short history holds few independent windows, and the largest of few distances is not yet the edge of normal.
        unseen = float(np.mean(np.log1p(_UNSEEN * np.array(signal.lengths) / len(z))))
        return Fitted(arrays | head.arrays(), head.raw([each + unseen for each in values]).reshape(-1))

    @property
    def _ahead(self) -> int:
        return self._delay // self._hop

    def _held_out(self, memory: WindowMemory, reading: Reading, ahead: int) -> Float64:
        """Slot values [block, hop] of the history, each window read against the other folds."""
        placement = Placement.of(memory.lengths, self._hop, ahead)
        blocks = np.arange(len(reading), dtype=np.int64)
        bare = Reading(reading.log_ratio, reading.shares[..., :0])
        return placement.values(placement.gather(bare, blocks, 0, np.full(len(blocks), len(blocks) - 1)))

    def _point_values(self, errors: Float32, means: Float64) -> Float64:
        """Slot values [block, hop] of the history's errors."""
        point = PointError(means, self._hop, self._ahead - self._context // self._hop)
        levels = point.level(errors.reshape(-1, self._hop, errors.shape[1]))
        blocks = np.arange(len(levels), dtype=np.int64)
        return point.values(levels, blocks, 0, np.full(len(blocks), len(blocks) - 1))

    def _residuals(self, z: Float32, scored: NDArray[np.bool_], grating: int) -> Float32:
        """Signed errors in z-scores [n, scored channel], each block seen as a live session sees it."""
        hop, context, imputer = self._hop, self._context, self._blocks
        assert imputer is not None
        before, after = np.full((self._window - hop, z.shape[1]), np.nan), np.full((context, z.shape[1]), np.nan)
        padded = np.concatenate([before, z, after]).astype(np.float32)
        blocks, skip = len(z) // hop, context // hop
        out = np.empty((blocks, hop, int(scored.sum())), np.float32)
        view = np.lib.stride_tricks.sliding_window_view(padded, self._window, axis=0)[::hop].transpose(0, 2, 1)
        for at in range(0, blocks, _WINDOWS_PER_CALL):
            stop = min(at + _WINDOWS_PER_CALL, blocks)
            windows = np.ascontiguousarray(view[at + skip : stop + skip])
            [imputed] = imputer.impute([(windows, scored)], grating)
            own = z[at * hop : stop * hop].reshape(-1, hop, z.shape[1])[:, :, scored]
            out[at:stop] = own - imputed.mean
        return out.reshape(-1, out.shape[2])

    # ---- stream

    def open(self, arrays: Arrays) -> MemorySession:
        needed = ["signal.lengths", *(f"residual.{grating}.lengths" for grating in self._gratings)]
        needed += ["point.means"] if self._gratings else []
        if missing := [name for name in needed if name not in arrays]:
            raise ModelError(f"profile: expected arrays of scorer {self.name} {self.version}, found no {missing[0]}")
        normaliser = Normaliser.from_arrays(arrays)
        signal = Track(WindowMemory.from_arrays(arrays, "signal", self._hop), self._ahead)
        behind = self._context // self._hop
        tracks = [
            Track(WindowMemory.from_arrays(arrays, f"residual.{grating}", self._hop), self._ahead - behind)
            for grating in self._gratings
        ]
        scales = [np.asarray(arrays[f"residual.{grating}.scale"], np.float32) for grating in self._gratings]
        point = None
        if self._gratings:
            point = PointError(np.asarray(arrays["point.means"], np.float64), self._hop, self._ahead - behind)
        band = self._imputer.band_factor(_COVERAGE) if self._imputer is not None else _NORMAL_BAND
        return MemorySession(
            normaliser,
            Head.from_arrays(arrays),
            signal,
            residuals=tracks,
            point=point,
            residual_scales=scales,
            context_blocks=behind,
            band=band,
        )

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        groups: dict[int, tuple[MemorySession, list[int]]] = {}
        for at, (session, window) in enumerate(batch):
            if not isinstance(session, MemorySession):
                raise TypeError(
                    f"session: expected one that {type(self).__name__}.open returned, found {type(session)}"
                )
            expected = (self._window, session.channels)
            if window.rows.shape != expected:
                raise DataError(f"window: expected shape {list(expected)}, found {list(window.rows.shape)}")
            groups.setdefault(id(session), (session, []))[1].append(at)
        z = [s.normaliser.apply(np.stack([batch[at][1].rows for at in numbers])) for s, numbers in groups.values()]
        jobs = [(windows, session.normaliser.scored) for windows, (session, _) in zip(z, groups.values(), strict=True)]
        imputed = [self._blocks.impute(jobs, grating) for grating in self._gratings] if self._blocks else []
        results: dict[int, ScoredSlots] = {}
        for number, (session, numbers) in enumerate(groups.values()):
            own = [each[number] for each in imputed]
            scored = session.take([batch[at][1] for at in numbers], z[number], own)
            results.update(zip(numbers, scored, strict=True))
        return [results[at] for at in range(len(batch))]


class MemoryScorer(ImputationScorer):
    """The memory of the signal alone, no network: the row every table of accuracy carries."""

    def __init__(self, *, hop_steps: int = HOP_STEPS, delay_steps: int = 32, lengths: Sequence[int] = LENGTHS) -> None:
        super().__init__(None, hop_steps=hop_steps, delay_steps=delay_steps, context_steps=0, lengths=lengths)


def _spread(rows: Float32) -> Float32:
    """Standard deviation by channel [channel], floored; 1 where the history holds no reading."""
    present = ~np.isnan(rows)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, rows, 0.0).astype(np.float64)
    mean = values.sum(axis=0) / count
    variance = (np.square(values).sum(axis=0) / count) - mean**2
    return np.asarray(np.maximum(np.sqrt(np.maximum(variance, 0.0)), _RESIDUAL_FLOOR), np.float32)
