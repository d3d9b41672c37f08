"""The pipeline for one complete series, written the obvious, slow way."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_ad.detection.calibration import Calibration
from stream_ad.ports import Window


def scores(values: Any, scorer: Any, profile: Any, memory: int) -> dict[int, float]:
    """Raw score of every emitted slot: each window from all rows so far, in a fresh session, one after the other."""
    n, emitted = len(values), {}
    hop, delay, window = scorer.hop_steps, scorer.delay_steps, scorer.window_steps
    padded = np.full((n + 10 * hop + delay, values.shape[1]), np.nan, dtype=np.float32)
    padded[:n] = values
    arrays = profile.fitted.arrays if profile else None
    next_fit, first = (window, None) if profile is None else (None, 0)
    for end in range(hop - 1, n + delay + hop, hop):
        final = end >= n
        context = padded[: end + 1].copy()
        if first is not None:
            for slot in range(max(first, end - delay - hop + 1), min(end - delay + 1, n)):
                session = scorer.open(arrays)
                for e in range(hop - 1, end, hop):
                    scorer.score([(session, _window(context, e, window, 0, 0))])
                emitted[slot] = float(
                    scorer.score([(session, _window(context, end, window, slot, slot + 1))])[0].raw[0]
                )
        if next_fit is not None and end + 1 >= next_fit and not final:
            arrays = scorer.fit(padded[: end + 1]).arrays
            first = end + 1 if first is None else first
            next_fit = 2 * (end + 1) if 2 * (end + 1) <= memory else None
    return emitted


def _window(rows: Any, end: int, window: int, emit_from: int, emit_to: int) -> Any:
    out = np.full((window, rows.shape[1]), np.nan, dtype=np.float32)
    low = max(0, end + 1 - window)
    out[window - (end + 1 - low) :] = rows[low : end + 1]
    return Window(out, end, emit_from, emit_to)


def threshold_of(values: Any, slot: int, scorer: Any, store: Any) -> float:
    """The same for every profile, since the fake scorer's held-out scores always are the same."""
    held_out = scorer.fit(values[: scorer.window_steps]).held_out
    return float(Calibration.fit(held_out, 1.0, 1 / (7 * 86400)).threshold)


def place_all(times: list[int], step: int, anchor: int, lateness: int, revise: int) -> list[tuple[int, str]]:
    """Slot and placement of each time: the nearest slot by trying all, the newest slot from all earlier times."""
    placed: list[tuple[int, str]] = []
    open_slots: list[int] = []
    for time in times:
        candidates = range(-anchor // step - 2, max(times) // step + 2)
        slot = max(candidates, key=lambda k: (-abs(anchor + k * step - time), k))
        first_open = max([0, *(seen - lateness + 1 for seen in open_slots)])
        if slot >= first_open:
            open_slots.append(slot)
            placed.append((slot, "open"))
        else:
            placed.append((slot, "revision" if slot >= max(0, first_open - revise) else "late"))
    return placed
