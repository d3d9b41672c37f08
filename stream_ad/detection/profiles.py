"""Fits a series' profile to its history: one function for `fit`, backtest and a worker that fits while it reads."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.ports import Fitted, Profile, Scorer
from stream_ad.windowing.grid import Grid, infer_step_ns

__all__ = ["fit_profile", "history_on_grid"]

DEFAULT_STEP_NS = 1_000_000_000


def fit_profile(
    scorer: Scorer,
    series: str,
    channels: Sequence[str],
    history: NDArray[np.float32],
    *,
    step_ns: int,
    origin: Literal["fit", "auto"],
    capacity: int,
    history_end_ns: int | None = None,
) -> Profile:
    """history: float32 [n, channel] on the grid, NaN = no reading. The version holds origin, size and content hash.

    DataError when the history is shorter than a window.
    """
    if len(history) < scorer.window_steps:
        raise DataError(
            f"history of series {series!r}: expected at least {scorer.window_steps} slots, found {len(history)}"
        )
    fitted = scorer.fit(history)
    return Profile(
        series=series,
        channels=tuple(channels),
        step_ns=step_ns,
        scorer=scorer.name,
        scorer_version=scorer.version,
        version=f"{origin}-{len(history)}-{_digest(fitted)}",
        slots=len(history),
        capacity=capacity,
        history_end_ns=history_end_ns,
        fitted=fitted,
    )


def history_on_grid(
    times_ns: NDArray[np.int64] | None, values: NDArray[np.float32], step_ns: int | None, max_gap: int
) -> tuple[NDArray[np.float32], int]:
    """Rows resampled to slots, and the step: (float32 [slot, channel], ns). DataError when no step can be inferred.

    times_ns int64 [n] in any order, None = each row is a slot. The last reading of a slot wins; longer runs of empty
    slots are shortened to max_gap.
    """
    if times_ns is None:
        return values, step_ns or DEFAULT_STEP_NS
    step_ns = step_ns or infer_step_ns(times_ns.tolist())
    if step_ns is None:
        raise DataError(f"expected a step or at least 8 different times, found {len(np.unique(times_ns))}")
    grid = Grid(step_ns, int(times_ns.min()), 0, 0)
    slots = np.array([grid.slot_of(int(t)) for t in times_ns], dtype=np.int64)
    distinct = np.unique(slots)
    gaps = np.minimum(np.diff(distinct, prepend=distinct[0]), max_gap + 1)
    place = dict(zip(distinct.tolist(), np.cumsum(gaps).tolist(), strict=True))
    out = np.full((place[int(distinct[-1])] + 1, values.shape[1]), np.nan, dtype=np.float32)
    for slot, row in zip(slots.tolist(), values, strict=True):
        target = out[place[slot]]
        present = ~np.isnan(row)
        target[present] = row[present]
    return out, step_ns


def _digest(fitted: Fitted) -> str:
    digest = blake2b(digest_size=4)
    for name in sorted(fitted.arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(fitted.arrays[name]).tobytes())
    return digest.hexdigest()
