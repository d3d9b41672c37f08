"""The product's scorers: memories of the signal and of a diffusion imputer's errors, a forecast, binary channels.

Every reading of a window is imputed from the others under complementary stripe masks; the errors and the signal itself
are compared, at several lengths, with memories of the series' normal windows (components.py, window_memory.py), and
the components are combined into one score (combine.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError, ModelError
from stream_ad.ports import Fitted, ScoredSlots, Session, Window
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS, WINDOW_STEPS
from stream_ad_models.imputer.block_imputer import WindowImputer
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.memory.features import LEVELS, SHAPE, SPECTRUM, FeatureSet
from stream_ad_models.memory.tracker import online_memory_blocks
from stream_ad_models.memory.window_stats import check_lengths
from stream_ad_models.scorer.base import WindowScorer, check_steps
from stream_ad_models.scorer.batching import WindowRun, advance_batch
from stream_ad_models.scorer.combine import ScoreCombiner
from stream_ad_models.scorer.components import BinaryComponent, ForecastComponent, ImputedComponent, SignalComponent
from stream_ad_models.scorer.normaliser import Normaliser, apply_batch
from stream_ad_models.scorer.point_error import BACK_STEPS
from stream_ad_models.scorer.session import MemorySession

Float32 = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]

__all__ = ["ImputationScorer", "MemoryScorer"]

CONTEXT_STEPS = 16
CAPACITY = 96
_FORMAT = 9
_GROUP = 16, 256  # windows per batch, at least and at most
_GROUP_VALUES = 4096  # windows times channels per batch: intermediate results stay in the processor's cache
_UNSEEN = 2.0  # allowance for windows that a short history did not show (ADR 22)


class ImputationScorer(WindowScorer):
    """Scorer over the imputer's errors, the signal, a forecast and binary channels. Thread-safe but for its sessions.

    imputer: None = without its component; delay_steps: later slots that a slot waits for (a multiple of the hop; it
    waits up to hop_steps - 1 more); context_steps: how many of these the imputer sees (16 if possible); stripes: widths
    of the stripe masks, the last one gives the expected values; capacity: windows stored per length; feature_sets: of
    the signal; forecast, binary_channels: whether these components count; online_memory: whether the stream's windows
    are stored too.
    """

    def __init__(
        self,
        imputer: WindowImputer | None,
        *,
        hop_steps: int = HOP_STEPS,
        delay_steps: int = DELAY_STEPS,
        context_steps: int | None = None,
        stripes: Sequence[int] = (16,),
        feature_sets: Sequence[FeatureSet] = (LEVELS, SPECTRUM, SHAPE),
        capacity: int = CAPACITY,
        forecast: bool = True,
        binary_channels: bool = True,
        online_memory: bool = True,
    ) -> None:
        window = imputer.window_steps if imputer is not None else WINDOW_STEPS
        if hop_steps < 1 or window % hop_steps:
            raise ConfigError(f"hop_steps: expected a divisor of the window's {window}, found {hop_steps}")
        super().__init__(hop_steps, delay_steps, most_delay=window - hop_steps, window_steps=window)
        feature_sets = [each.with_hop(hop_steps) for each in feature_sets]
        for each in feature_sets:
            check_lengths(each.lengths, hop_steps)
        if context_steps is None:
            context_steps = min(CONTEXT_STEPS, delay_steps) // hop_steps * hop_steps
        check_steps("context_steps", context_steps, hop_steps, delay_steps)
        context = context_steps if imputer is not None else 0
        look_ahead = delay_steps // hop_steps
        self._signal = SignalComponent(
            feature_sets, hop_steps, look_ahead, capacity=capacity, online_memory=online_memory
        )
        self._forecast = ForecastComponent(hop_steps, look_ahead) if forecast else None
        self._binary = BinaryComponent(hop_steps, look_ahead) if binary_channels else None
        self._imputed = None
        self._stripes = tuple(stripes) if imputer is not None else ()
        if imputer is not None:
            self._imputed = ImputedComponent(
                imputer,
                stripes,
                hop_steps,
                look_ahead,
                context_blocks=context // hop_steps,
                capacity=capacity,
                online_memory=online_memory,
            )
        kind = "universal" if isinstance(imputer, UniversalImputer) else "group"
        self.name = "memory" if imputer is None else kind
        further = {"forecast": forecast, "flags": binary_channels, "grows": online_memory}
        sets = ".".join(each.name for each in feature_sets)
        parts = "-".join([sets, *(name for name, part in further.items() if part)])
        masks = ".".join(map(str, self._stripes)) or "none"
        model = imputer.version if imputer is not None else "none"
        self.version = f"{_FORMAT}-{model}-h{hop_steps}-d{delay_steps}-c{context}-g{masks}-{parts}"
        # The delay, the oldest window that a slot's value is read from, the windows in its online memory, and the
        # imputer's view of the first row of these.
        oldest = max(*(each.lengths[-1] for each in feature_sets), LEVELS.lengths[-1], BACK_STEPS)
        online = sum(online_memory_blocks(hop_steps)) * hop_steps if online_memory else 0
        self.lookback_steps = delay_steps + hop_steps + oldest + online + window - context

    # ---- history

    def fit(self, history: Float32) -> Fitted:
        self.check_history(history)
        normaliser = Normaliser.fit(history)
        z = normaliser.apply(history[len(history) % self.hop_steps :])
        signal = z[:, normaliser.scored]
        inner = self._imputed.inner(len(z) // self.hop_steps) if self._imputed else slice(None)
        learned = self._signal.learn(signal).of_blocks(inner)
        if self._imputed is not None:
            learned = learned.then(self._imputed.learn(z, normaliser.scored))
        if self._forecast is not None:
            learned = learned.then(self._forecast.learn(signal).of_blocks(inner))
        if self._binary is not None:
            learned = learned.then(self._binary.learn(z, normaliser).of_blocks(inner))
        combiner = ScoreCombiner.fit(learned.values, learned.weights)
        # A short history holds few independent windows: its largest distances underestimate those of normal data.
        lengths = np.array([length for length in LEVELS.lengths if len(z) >= length])
        unseen = float(np.mean(np.log1p(_UNSEEN * lengths / len(z))))
        raw = combiner.raw([each + unseen for each in learned.values])
        return Fitted({**normaliser.arrays(), **learned.arrays, **combiner.arrays()}, raw.reshape(-1))

    # ---- stream

    def open(self, arrays: Arrays) -> MemorySession:
        parts = [part for part in (self._signal, self._imputed, self._forecast) if part is not None]
        if missing := [name for part in parts for name in part.needed if name not in arrays]:
            raise ModelError(f"profile: expected arrays of scorer {self.name} {self.version}, found no {missing[0]}")
        normaliser = Normaliser.from_arrays(arrays)
        return MemorySession(
            normaliser,
            ScoreCombiner.from_arrays(arrays),
            self._signal.open(arrays),
            self._imputed.open(arrays) if self._imputed is not None else None,
            self._forecast.open(arrays) if self._forecast is not None else None,
            self._binary.open(arrays, normaliser) if self._binary is not None else None,
        )

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        """Windows of several sessions are scored in one batch where their batch keys are equal."""
        results: dict[int, ScoredSlots] = {}
        queues = self._runs(batch)
        while queues:
            groups: dict[tuple[object, ...], list[list[int]]] = {}
            for queue in queues:
                numbers = queue.pop(0)
                groups.setdefault(_run(batch, numbers).batch_key, []).append(numbers)
            for group in groups.values():
                self._score_group(batch, group, results)
            queues = [queue for queue in queues if queue]
        return [results[at] for at in range(len(batch))]

    def _score_group(
        self, batch: Sequence[tuple[Session, Window]], group: Sequence[list[int]], results: dict[int, ScoredSlots]
    ) -> None:
        """Runs with the same batch key, as many at once as fit the processor's cache."""
        channels = batch[group[0][0]][0].channels
        together = max(min(max(_GROUP_VALUES // channels, _GROUP[0]), _GROUP[1]) // len(group[0]), 1)
        for at in range(0, len(group), together):
            some = group[at : at + together]
            runs = [_run(batch, numbers) for numbers in some]
            scored = runs[0].session.normaliser.scored
            rows = np.stack([window.rows for run in runs for window in run.windows])
            z = apply_batch([run.session.normaliser for run in runs for _ in run.windows], rows)
            imputed = [self._imputed.blocks.impute(z, scored, each) for each in self._stripes if self._imputed]
            scores = advance_batch(runs, z.reshape(len(runs), -1, *z.shape[1:]), imputed)
            for numbers, slots in zip(some, scores, strict=True):
                results.update(zip(numbers, slots, strict=True))

    def _runs(self, batch: Sequence[tuple[Session, Window]]) -> list[list[list[int]]]:
        """Splits each session's windows (places in the batch) into runs that may be scored in one batch: consecutive by
        one hop, not across a session reset, and no longer than the online memory's gap (a window must not find
        itself)."""
        most = online_memory_blocks(self.hop_steps)[0]
        queues: dict[int, list[list[int]]] = {}
        ends: dict[int, int] = {}
        alone: set[int] = set()  # sessions whose last run is a first window
        for at, (session, window) in enumerate(batch):
            mine = self.check_window(session, window, MemorySession)
            key = id(session)
            queue = queues.setdefault(key, [])
            follows = window.end_slot == ends.get(key, mine.next_end)
            if not queue or not follows or key in alone or len(queue[-1]) == most:
                queue.append([])
            alone.discard(key) if follows else alone.add(key)
            queue[-1].append(at)
            ends[key] = window.end_slot + self.hop_steps
        return list(queues.values())


def _run(batch: Sequence[tuple[Session, Window]], numbers: Sequence[int]) -> WindowRun:
    session = batch[numbers[0]][0]
    assert isinstance(session, MemorySession)
    return WindowRun(session, [batch[at][1] for at in numbers])


class MemoryScorer(ImputationScorer):
    """The signal's levels alone, without imputer and online memory: the reference row of the accuracy tables."""

    def __init__(self, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(
            None,
            hop_steps=hop_steps,
            delay_steps=delay_steps,
            feature_sets=(LEVELS,),
            forecast=False,
            binary_channels=False,
            online_memory=False,
        )
