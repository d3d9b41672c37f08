"""Windows in, raw scores out; what a scorer learned of a series, and where that is kept."""

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
    end_slot: number of the last row's slot; 0 is the series' first slot.
    emit_from, emit_to: the half-open range of slots to score now, all <= end_slot; an empty range only refills
        the session (start of a series, recovery).
    """

    rows: Float32
    end_slot: int
    emit_from: int
    emit_to: int


@dataclass(frozen=True, slots=True)
class ScoredSlots:
    """What a scorer says of `n` consecutive slots from `first_slot` on.

    raw: float64 [n], >= 0, higher = more anomalous, not yet calibrated.
    expected, lower, upper: float32 [n, channel], in the units of the input.
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
    """What a scorer learned of one series.

    arrays: everything `Scorer.open` needs, plain arrays (they are stored as safetensors).
    held_out: float64 [m] raw scores of consecutive normal slots, each scored without its own neighbourhood in
        the memory: what calibration reads.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    held_out: Float64


@runtime_checkable
class Session(Protocol):
    """The running state of one series inside a scorer; rebuilt from rows alone, never stored."""

    @property
    def channels(self) -> int: ...


@runtime_checkable
class Scorer(Protocol):
    """Turns windows into raw scores.

    Windows of one session arrive in order, their ends `hop_steps` apart, aligned to multiples of the hop
    (end_slot + 1 is a multiple of hop_steps). A slot's score is a function of the rows in the `lookback_steps` up to
    the end of the window that emits it: a fresh session fed with that much scores as one fed from the start.
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
        """history: float32 [n, channel], n >= window_steps, NaN = no reading. Labels are never seen."""
        ...

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> Session:
        """A fresh session over what `fit` returned."""
        ...

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        """One result per window, in order; results do not depend on what else is in the batch (1e-4 relative)."""
        ...


@dataclass(frozen=True, slots=True)
class Profile:
    """What is a series' own: written once, never changed, named by its version.

    slots: how many slots of history it was fitted on; capacity: how many it would use at most.
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
        """ "fit" = from a history handed over, "auto" = filled as the stream went; the version begins with it."""
        return self.version.partition("-")[0]


class ProfileStore(Protocol):
    """Versioned, immutable profiles and the pointer to the promoted one of each series."""

    def save(self, profile: Profile, *, promote: bool) -> None:
        """Writes the version whole or not at all; `promote` then moves the series' pointer to it."""
        ...

    def load(self, series: str, scorer: str, version: str | None = None) -> Profile | None:
        """The named version, or the promoted one; None when there is none. ModelError when it is not ours."""
        ...

    def series(self, scorer: str) -> list[str]:
        """Series that have a promoted profile."""
        ...
