"""Small stand-ins for unit tests; each passes the same checks as the real part it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from stream_ad_connectors.in_process.memory import MemoryProfileStore

from stream_ad.ports import Fitted, ScoredSlots, Window

MemoryProfiles = MemoryProfileStore


@dataclass
class LevelSession:
    channels: int
    scale: NDArray[np.float64]
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class LevelScorer:
    """Distance of a slot from the mean of all rows in the look-back: cheap, and it has memory beyond one window."""

    name: str = "level"
    version: str = "1"
    window_steps: int = 16
    hop_steps: int = 4
    delay_steps: int = 3
    lookback_steps: int = 40

    def fit(self, history: NDArray[np.float32]) -> Fitted:
        scale = np.nan_to_num(np.nanstd(history, axis=0), nan=1.0) + 0.5
        return Fitted({"scale": scale}, np.abs(np.sin(np.arange(64.0))))

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> LevelSession:
        scale = np.asarray(arrays["scale"], dtype=np.float64)
        return LevelSession(len(scale), scale)

    def score(self, batch: Sequence[tuple[LevelSession, Window]]) -> list[ScoredSlots]:
        return [self._one(session, window) for session, window in batch]

    def _one(self, session: LevelSession, window: Window) -> ScoredSlots:
        first = window.end_slot - len(window.rows) + 1
        session.rows |= {first + i: row for i, row in enumerate(window.rows)}
        oldest = window.end_slot - self.lookback_steps
        session.rows = {slot: row for slot, row in session.rows.items() if slot > oldest}
        context = np.array([session.rows[s] for s in sorted(session.rows)], dtype=np.float64)
        filled = np.where(np.isnan(context), 0.0, context)
        mean = filled.sum(axis=0) / np.maximum(1, (~np.isnan(context)).sum(axis=0))
        rows = window.rows[window.emit_from - first : window.emit_to - first].astype(np.float64)
        error = np.nan_to_num(np.abs(rows - mean) / session.scale)
        expected = np.broadcast_to(mean, rows.shape).astype(np.float32)
        share = (error + 1e-9) / (error + 1e-9).sum(axis=1, keepdims=True)
        return ScoredSlots(
            window.emit_from, error.sum(axis=1), expected, expected - 1, expected + 1, share.astype(np.float32)
        )
