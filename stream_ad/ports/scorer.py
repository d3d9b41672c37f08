"""Contracts of scorers (windows in, raw scores out) and of the store of fitted profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fitted", "Profile", "ProfileStore", "ScoredSlots", "Scorer", "Session", "Window"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """The last rows of one series, ending at a closed slot.

    rows: float32 [window, channel], oldest first; NaN = no reading (also before the series' first slot).
    end_slot: slot number of the last row; 0 is the series' first slot.
    emit_from, emit_to: the half-open range of slots to score now, all <= end_slot; an empty range only warms up the
        session (start of a series, recovery).
    """

    rows: Float32
    end_slot: int
    emit_from: int
    emit_to: int


@dataclass(frozen=True, slots=True)
class ScoredSlots:
    """A scorer's results for `n` consecutive slots from `first_slot` on.

    raw: float64 [n], >= 0, higher = more anomalous, not yet calibrated.
    expected, lower, upper: float32 [n, channel], in the units of the input; lower and upper bound the prediction
        interval.
    attribution: float32 [n, channel], >= 0, each row sums to 1.
    """

    first_slot: int
    raw: Float64
    expected: Float32
    lower: Float32
    upper: Float32
    attribution: Float32


@dataclass(frozen=True, slots=True)
class Fitted:
    """What `Scorer.fit` learned of one series.

    arrays: everything that `Scorer.open` needs, as plain arrays (profiles store them as safetensors).
    held_out: float64 [m] raw scores of consecutive normal slots, each scored without its own neighbourhood in the
        memory; calibration derives the threshold from them.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    held_out: Float64


@runtime_checkable
class Session(Protocol):
    """A scorer's running state for one series; rebuilt from rows, never stored."""

    @property
    def channels(self) -> int: ...


@runtime_checkable
class Scorer(Protocol):
    """Turns windows into raw scores.

    The windows of one session arrive in order, their ends `hop_steps` apart and aligned to multiples of the hop
    (end_slot + 1 is a multiple of hop_steps). An implementation must guarantee that a slot's score is a function of
    the rows in the `lookback_steps` up to the end of the window that emits it: a fresh session that saw only these
    scores like one that saw the series from its start. A slot is emitted once `delay_steps` later slots are closed.

    Examples
    --------
    >>> from stream_ad.settings import DetectorSettings, Settings
    >>> from stream_ad.wiring import build_scorer
    >>> scorer = build_scorer(Settings(detector=DetectorSettings(scorer="control")))
    >>> history = np.random.default_rng(0).standard_normal((400, 2)).astype(np.float32)
    >>> session = scorer.open(scorer.fit(history).arrays)
    >>> window = Window(history[-scorer.window_steps :], end_slot=399, emit_from=352, emit_to=368)
    >>> scorer.score([(session, window)])[0].raw.shape
    (16,)
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def window_steps(self) -> int: ...
    @property
    def hop_steps(self) -> int: ...
    @property
    def delay_steps(self) -> int: ...
    @property
    def lookback_steps(self) -> int: ...

    def fit(self, history: Float32) -> Fitted:
        """history: float32 [n, channel], n >= window_steps, NaN = no reading; never labels."""
        ...

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> Session:
        """A fresh session from the arrays of `fit`. LookupError, TypeError or ValueError for arrays of another kind."""
        ...

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        """One result per window, in order. A result must not depend on the rest of the batch (1e-4 relative)."""
        ...


@dataclass(frozen=True, slots=True)
class Profile:
    """A scorer fitted to one series: immutable, named by its version.

    slots: number of slots of the history it was fitted on; capacity: how many a fit uses at most.
    history_end_ns: event time of the last fitted slot, None when the history had no times.
    """

    series: str
    channels: tuple[str, ...]
    step_ns: int
    scorer: str
    scorer_version: str
    version: str
    slots: int
    capacity: int
    history_end_ns: int | None
    fitted: Fitted

    @property
    def origin(self) -> str:
        """The first word of the version: "fit" = from a given history, "auto" = from the stream's own readings."""
        return self.version.partition("-")[0]


class ProfileStore(Protocol):
    """Stores versioned, immutable profiles, and for each series and scorer which version is promoted."""

    def save(self, profile: Profile, *, promote: bool) -> None:
        """Writes the version atomically; promote: then makes it the series' promoted one."""
        ...

    def load(self, series: str, scorer: str, version: str | None = None) -> Profile | None:
        """The named version, or the promoted one; None when it does not exist. ModelError when it cannot be read."""
        ...

    def series(self, scorer: str) -> list[str]:
        """The series that have a promoted profile."""
        ...
