"""The product's scorers: memories of the signal, of what a diffusion imputer leaves unexplained, and a forecast.

Every reading of a window is imputed from the others under complementary gratings; the signed errors and the signal
itself are read, at several lengths, against memories of the series' own normal windows (parts.py, memory.py, head.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError, DataError, ModelError
from stream_ad.ports import Fitted, ScoredSlots, Session, Window
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS, WINDOW_STEPS
from stream_ad_models.imputer.block_imputer import WindowImputer
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.memory.features import LEVELS, SHAPE, SPECTRUM, FeatureSet
from stream_ad_models.memory.tracker import growth_blocks
from stream_ad_models.memory.window_stats import check_lengths
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
_GROUP = 16, 256  # windows scored at once, at least and at most
_GROUP_VALUES = 4096  # of these windows times channels: what is worked out of them stays inside the processor's cache
_UNSEEN = 2.0  # normal rows over a threshold of 1 a week, 128 rows of history: 17% without it, 4% with; 512: 1.6%, .4%


class ImputationScorer:
    """Scorer over the imputer's errors, the signal and a forecast. Thread-safe but for its sessions.

    delay_steps: later slots a slot waits for (a multiple of the hop; a slot waits up to hop_steps - 1 more);
    context_steps: how many of these the imputer sees (16 where that is possible); gratings: widths of the gratings,
    the last one gives the expected values; capacity: windows stored of each length; families: sets of the signal's
    features; forecasts: whether the forecast's errors count; flags: whether the surprise of channels of 0 and 1 does
    (flags.py); grows: whether a stream's own windows come to count as normal (tracks.py).
    imputer None: the rest of the score alone.
    """

    def __init__(
        self,
        imputer: WindowImputer | None,
        *,
        hop_steps: int = HOP_STEPS,
        delay_steps: int = DELAY_STEPS,
        context_steps: int | None = None,
        stripes: Sequence[int] = (16,),
        families: Sequence[FeatureSet] = (LEVELS, SPECTRUM, SHAPE),
        capacity: int = CAPACITY,
        forecasts: bool = True,
        flags: bool = True,
        grows: bool = True,
    ) -> None:
        self._imputer = imputer
        self._window = imputer.window_steps if imputer is not None else WINDOW_STEPS
        if hop_steps < 1 or self._window % hop_steps:
            raise ConfigError(f"hop_steps: expected a divisor of the window's {self._window}, found {hop_steps}")
        self._families, self._grows = tuple(family.with_hop(hop_steps) for family in families), grows
        for family in self._families:
            check_lengths(family.lengths, hop_steps)
        if context_steps is None:
            context_steps = min(CONTEXT_STEPS, delay_steps) // hop_steps * hop_steps
        bound = self._window - hop_steps
        for word, steps, most in (("delay_steps", delay_steps, bound), ("context_steps", context_steps, delay_steps)):
            if steps % hop_steps or not 0 <= steps <= most:
                raise ConfigError(f"{word}: expected a multiple of {hop_steps} from 0 to {most}, found {steps}")
        self._hop, self._delay = hop_steps, delay_steps
        self._context = context_steps if imputer is not None else 0
        ahead = delay_steps // hop_steps
        self._signal = SignalComponent(self._families, hop_steps, ahead, capacity=capacity, grows=grows)
        self._forecast = ForecastComponent(hop_steps, ahead) if forecasts else None
        self._flags = BinaryComponent(hop_steps, ahead) if flags else None
        self._lookback = self._find_lookback()
        self._imputed = None
        self._stripes = tuple(stripes) if imputer is not None else ()
        if imputer is not None:
            self._imputed = ImputedComponent(
                imputer,
                stripes,
                hop_steps,
                ahead,
                context_blocks=self._context // hop_steps,
                capacity=capacity,
                grows=grows,
            )

    @property
    def name(self) -> str:
        if self._imputer is None:
            return "memory"
        return "universal" if isinstance(self._imputer, UniversalImputer) else "group"

    @property
    def version(self) -> str:
        model = self._imputer.version if self._imputer is not None else "none"
        stripes = ".".join(map(str, self._stripes)) or "none"
        families = ".".join(family.name for family in self._families)
        further = {"forecast": self._forecast, "flags": self._flags, "grows": self._grows}
        parts = "-".join([families, *(name for name, part in further.items() if part)])
        return f"{_FORMAT}-{model}-h{self._hop}-d{self._delay}-c{self._context}-g{stripes}-{parts}"

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
        """The delay, the oldest window a slot is placed by, those that still count as normal for it, and the imputer's
        view of the first row of these."""
        return self._lookback

    def _find_lookback(self) -> int:
        oldest = max(*(family.lengths[-1] for family in self._families), LEVELS.lengths[-1], BACK_STEPS)
        grown = sum(growth_blocks(self._hop)) * self._hop if self._grows else 0
        return self._delay + self._hop + oldest + grown + self._window - self._context

    # ---- history

    def fit(self, history: Float32) -> Fitted:
        if history.ndim != 2 or len(history) < self._window:
            raise DataError(f"history: expected at least {self._window} rows, found shape {list(history.shape)}")
        normaliser = Normaliser.fit(history)
        z = normaliser.apply(history[len(history) % self._hop :])
        signal = z[:, normaliser.scored]
        inner = self._imputed.inner(len(z) // self._hop) if self._imputed else slice(None)
        learned = self._signal.learn(signal).of_blocks(inner)
        if self._imputed is not None:
            learned = learned.then(self._imputed.learn(z, normaliser.scored))
        if self._forecast is not None:
            learned = learned.then(self._forecast.learn(signal).of_blocks(inner))
        if self._flags is not None:
            learned = learned.then(self._flags.learn(z, normaliser).of_blocks(inner))
        combiner = ScoreCombiner.fit(learned.values, learned.weights)
        # A short history holds few independent windows, and the largest of few distances is not yet the edge of normal.
        lengths = np.array([length for length in LEVELS.lengths if len(z) >= length])
        unseen = float(np.mean(np.log1p(_UNSEEN * lengths / len(z))))
        raw = combiner.raw([each + unseen for each in learned.values])
        return Fitted({**normaliser.arrays(), **learned.arrays, **combiner.arrays()}, raw.reshape(-1))

    # ---- stream

    def open(self, arrays: Arrays) -> MemorySession:
        parts = [part for part in (self._signal, self._imputed, self._forecast) if part is not None]
        if missing := [name for part in parts for name in part.needed() if name not in arrays]:
            raise ModelError(f"profile: expected arrays of scorer {self.name} {self.version}, found no {missing[0]}")
        normaliser = Normaliser.from_arrays(arrays)
        return MemorySession(
            normaliser,
            ScoreCombiner.from_arrays(arrays),
            self._signal.open(arrays),
            self._imputed.open(arrays) if self._imputed is not None else None,
            self._forecast.open(arrays) if self._forecast is not None else None,
            self._flags.open(arrays, normaliser) if self._flags is not None else None,
        )

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        """Windows of several sessions are taken together where these are at the same point of their course."""
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
        """As many runs of one likeness at once as the processor's cache holds."""
        channels = batch[group[0][0]][0].channels
        together = max(min(max(_GROUP_VALUES // channels, _GROUP[0]), _GROUP[1]) // len(group[0]), 1)
        for at in range(0, len(group), together):
            some = group[at : at + together]
            runs = [_run(batch, numbers) for numbers in some]
            scored = runs[0].session.normaliser.scored
            rows = np.stack([window.rows for run in runs for window in run.windows])
            z = apply_batch([run.session.normaliser for run in runs for _ in run.windows], rows)
            stripes = self._stripes if self._imputed else ()
            imputed = [self._imputed.blocks.impute([(z, scored)], each)[0] for each in stripes] if self._imputed else []
            told = advance_batch(runs, z.reshape(len(runs), -1, *z.shape[1:]), imputed)
            for numbers, slots in zip(some, told, strict=True):
                results.update(zip(numbers, slots, strict=True))

    def _runs(self, batch: Sequence[tuple[Session, Window]]) -> list[list[list[int]]]:
        """Per session, its windows' places in the batch cut where they are not one hop apart, where a session begins
        anew, and before they meet themselves in the growing memory."""
        most = growth_blocks(self._hop)[0]
        queues: dict[int, list[list[int]]] = {}
        ends: dict[int, int] = {}
        alone: set[int] = set()  # sessions whose last run is a first window
        for at, (session, window) in enumerate(batch):
            if not isinstance(session, MemorySession):
                raise TypeError(
                    f"session: expected one that {type(self).__name__}.open returned, found {type(session)}"
                )
            expected = (self._window, session.channels)
            if window.rows.shape != expected:
                raise DataError(f"window: expected shape {list(expected)}, found {list(window.rows.shape)}")
            own = id(session)
            queue = queues.setdefault(own, [])
            follows = window.end_slot == ends.get(own, session.next_end)
            if not queue or not follows or own in alone or len(queue[-1]) == most:
                queue.append([])
            alone.discard(own) if follows else alone.add(own)
            queue[-1].append(at)
            ends[own] = window.end_slot + self._hop
        return list(queues.values())


def _run(batch: Sequence[tuple[Session, Window]], numbers: Sequence[int]) -> WindowRun:
    session = batch[numbers[0]][0]
    assert isinstance(session, MemorySession)
    return WindowRun(session, [batch[at][1] for at in numbers])


class MemoryScorer(ImputationScorer):
    """The memory of the signal's levels alone, nothing grown, no network: the row every table of accuracy carries."""

    def __init__(self, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(
            None,
            hop_steps=hop_steps,
            delay_steps=delay_steps,
            families=(LEVELS,),
            forecasts=False,
            flags=False,
            grows=False,
        )
