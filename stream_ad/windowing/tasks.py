"""What a series asks to be done, captured at the reading that makes it due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream_ad.ports import Window

__all__ = ["FitTask", "ScoreTask", "TaskKind"]

TaskKind = Literal["live", "revise", "recall", "provisional"]


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Windows to score in order. fresh = into a new session, which then replaces the series' own unless provisional.

    seen: per window, bool [emit_to - emit_from], the slots to tell: those that had an observation.
    why: live = slots told for the first time; revise = told again; recall = told before a restart; provisional = told
    although later slots are still to come.
    """

    windows: tuple[Window, ...]
    seen: tuple[NDArray[np.bool_], ...]
    kind: TaskKind
    late_slots: frozenset[int] = frozenset()

    @property
    def fresh(self) -> bool:
        """All but live work begins with an empty session."""
        return self.kind != "live"


@dataclass(frozen=True, slots=True)
class FitTask:
    """A new profile from all rows so far; `after` refills the new session."""

    history: NDArray[np.float32]
    history_end_ns: int
    after: ScoreTask
