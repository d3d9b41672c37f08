"""Tables of `Detector`: a DataFrame with one column per channel, or an array [row, channel]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from stream_ad.errors import TableError
from stream_ad.records import Table

__all__ = ["Tabular", "table_of"]

Tabular: TypeAlias = pd.DataFrame | ArrayLike


def table_of(X: Tabular, series: str, fitted: Sequence[str] = (), *, named: bool = True) -> Table:
    """The rows of X, with times from a DatetimeIndex (no zone = UTC). NaN and infinities = no reading.

    fitted: the channels that X may have; empty = any. The columns of a frame are matched by name, and a missing one has
    no readings. The columns of an array, and of a frame where not `named`, are the fitted ones in order, else x0, x1...
    TableError: X is not a table of numbers, or has other channels.
    """
    if not isinstance(X, pd.DataFrame):
        values = _array(X)
        return Table(series, _by_place(values.shape[1], fitted), None, values, None)
    if not len(X.columns) or not len(X):
        raise TableError(f"expected a DataFrame with rows and a column per channel, found shape {X.shape}")
    try:
        values = _float32(X.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise TableError(f"expected columns of numbers: {error}") from None
    channels = tuple(map(str, X.columns)) if named or not fitted else _by_place(values.shape[1], fitted)
    unknown = [name for name in channels if fitted and name not in fitted]
    if unknown:
        raise TableError(
            f"expected the channels that were fitted ({', '.join(fitted)}), found {', '.join(map(repr, unknown))} too"
        )
    if len(set(channels)) < len(channels):
        raise TableError(f"expected distinct column names, found: {', '.join(channels)}")
    return Table(series, channels, _times(X.index), values, None)


def _by_place(width: int, fitted: Sequence[str]) -> tuple[str, ...]:
    names = tuple(fitted) or tuple(f"x{place}" for place in range(width))
    if len(names) != width:  # the message that scikit-learn's checks require
        raise TableError(f"X has {width} features, but Detector is expecting {len(names)} features as input")
    return names


def _array(X: ArrayLike) -> NDArray[np.float32]:
    if hasattr(X, "tocsr"):
        raise TableError("expected a dense array, found a sparse one")
    try:
        values = np.asarray(X)
        if values.ndim != 2:
            raise TableError(
                f"expected a DataFrame or an array [row, channel], found {type(X).__name__} of {values.ndim} "
                "dimensions. Reshape your data: one channel is an array of one column"
            )
        if values.size == 0:
            rows, width = values.shape
            raise TableError(
                f"found {rows} sample(s) and {width} feature(s) (shape=({rows}, {width})) while a minimum of 1 is "
                "required."
            )
        if np.iscomplexobj(values):
            raise TableError("Complex data not supported: expected numbers")
        return _float32(values.astype(np.float64))
    except TableError:
        raise
    except (TypeError, ValueError) as error:
        raise TableError(f"expected an array of numbers: {error}") from None


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values beyond float32 become NaN, as infinities do."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    narrow[~np.isfinite(narrow)] = np.nan
    return narrow


def _times(index: pd.Index) -> NDArray[np.int64] | None:
    if not isinstance(index, pd.DatetimeIndex):
        return None
    aware = index.tz_localize("UTC") if index.tz is None else index
    if aware.hasnans:
        raise TableError("expected a time for every row, found NaT in the index")
    return np.asarray(aware.as_unit("ns").asi8, dtype=np.int64)
