"""A scorer: how far each reading is from its channel's usual level, in standard deviations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stream_ad.ports import Fitted, ScoredSlots, Session, Window
from stream_ad.settings import Settings

FLOOR = 1e-3


@dataclass(frozen=True)
class DeviationSession:
    """Nothing is kept from window to window."""

    centre: NDArray[np.float64]
    spread: NDArray[np.float64]

    @property
    def channels(self) -> int:
        return len(self.centre)


@dataclass(frozen=True)
class DeviationScorer:
    hop_steps: int
    delay_steps: int
    name: str = "deviation"
    version: str = "1"
    window_steps: int = 128
    lookback_steps: int = 128

    def fit(self, history: NDArray[np.float32]) -> Fitted:
        rows = history.astype(np.float64)
        seen = ~np.isnan(rows)
        count = np.maximum(seen.sum(axis=0), 1)
        centre = np.where(seen, rows, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(seen, np.square(rows - centre), 0.0).sum(axis=0) / count) + FLOOR
        return Fitted({"centre": centre, "spread": spread}, _squares(rows, centre, spread).mean(axis=1))

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> DeviationSession:
        return DeviationSession(*(np.asarray(arrays[name], np.float64) for name in ("centre", "spread")))

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        return [self._one(cast("DeviationSession", session), window) for session, window in batch]

    def _one(self, session: DeviationSession, window: Window) -> ScoredSlots:
        first = window.end_slot - len(window.rows) + 1
        rows = window.rows[window.emit_from - first : window.emit_to - first].astype(np.float64)
        squares = _squares(rows, session.centre, session.spread)
        expected = np.broadcast_to(session.centre, rows.shape)
        reach = 3 * session.spread
        shares = (squares + 1e-12) / (squares + 1e-12).sum(axis=1, keepdims=True)
        bands = (expected, expected - reach, expected + reach, shares)
        return ScoredSlots(window.emit_from, squares.mean(axis=1), *(band.astype(np.float32) for band in bands))


def _squares(
    rows: NDArray[np.float64], centre: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(np.square(np.nan_to_num((rows - centre) / spread)))


def make(settings: Settings) -> DeviationScorer:
    return DeviationScorer(settings.detector.hop_steps, settings.detector.delay_steps)
