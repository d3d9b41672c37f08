"""`score_array`: scores of an array in one call, the interface of benchmarks such as TSB-AD."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream_ad.errors import TableError
from stream_ad.sdk.detector import Detector

__all__ = ["score_array"]


def score_array(values: ArrayLike, train: ArrayLike | int | None = None, **options: object) -> NDArray[np.float64]:
    """Scores every row of an array with a `Detector`.

    Parameters
    ----------
    values : array [row, channel] or [row]
        Readings; NaN = no reading.
    train : array or int, default None
        Normal rows of the same channels, or the number of first rows of `values` that are normal. None: the first full
        window is learned and not scored; its rows get 0, the lowest score, so exclude them from a metric.
    **options : object
        Parameters of `Detector`.

    Returns
    -------
    float64 [row]
        Finite scores; higher = more anomalous, 1 = the threshold.

    Raises
    ------
    TableError
        There are too few rows to score any.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_ad import score_array
    >>> values = np.sin(np.arange(900) / 8) + 0.05 * np.random.default_rng(0).standard_normal(900)
    >>> values[800:805] += 4
    >>> scores = score_array(values, train=600)
    >>> bool(scores[800:805].max() > 1), bool((scores[600:700] > 1).any())
    (True, False)
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
