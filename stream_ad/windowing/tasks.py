"""The tasks that a series queues for the batch scorer, captured at the observation that makes them ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream_ad.ports import Window

__all__ = ["FitTask", "ScoreTask", "TaskKind"]

TaskKind = Literal["live", "late", "replay", "provisional"]


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Windows to score, in order.

    seen: per window, bool [emit_to - emit_from]: the slots to emit are those that had an observation.
    kind: live = on time, the slots' first emission; late = late data changed slots that were emitted; replay = warms
    up the session, emits nothing; provisional = speculative, later slots are still missing.
    """

    windows: tuple[Window, ...]
    seen: tuple[NDArray[np.bool_], ...]
    kind: TaskKind
    late_slots: frozenset[int] = frozenset()

    @property
    def fresh(self) -> bool:
        """Whether a new session scores the windows. It replaces the series' session, unless it is provisional."""
        return self.kind != "live"


@dataclass(frozen=True, slots=True)
class FitTask:
    """A new profile from the history, float32 [slot, channel]; the task `after` warms up its session."""

    history: NDArray[np.float32]
    history_end_ns: int
    after: ScoreTask
