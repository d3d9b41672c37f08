"""Scores of an array in one call, as benchmarks of detectors in the manner of PyOD and TSB-AD ask for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream_ad.errors import TableError
from stream_ad.sdk.detector import Detector

__all__ = ["score_array"]


def score_array(values: ArrayLike, train: ArrayLike | int | None = None, **options: object) -> NDArray[np.float64]:
    """float64 [row], finite, higher = more anomalous, 1 = the threshold.

    values: [row, channel], or [row] of one channel; NaN = no reading. train: normal rows of the same channels, or how
    many of the first rows of `values` are normal. options: those of Detector.
    With `train` every row is scored. Without it the first full window is learned, not scored: its rows get 0, the
    lowest score there is, since nothing was held against them; leave them out of a metric where that matters.
    TableError when the rows are too few to score any.
    """
    rows = _columns(values)
    detector = Detector(**options)  # type: ignore[arg-type]
    if train is not None:
        normal = np.asarray(train)
        detector.fit(_columns(normal) if normal.ndim else rows[: int(normal)])
    scores = detector.score(rows)["score"].to_numpy(dtype=np.float64)
    if np.isnan(scores).all():
        raise TableError(
            f"expected more rows than the scorer's first window of {detector.scorer_.window_steps}, found {len(rows)}",
            hint="give train",
        )
    return np.where(np.isnan(scores), 0.0, scores)


def _columns(values: ArrayLike) -> NDArray[np.generic]:
    array = np.asarray(values)
    return array[:, np.newaxis] if array.ndim == 1 else array
