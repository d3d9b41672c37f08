"""The nearest-slot join of scores to the rows of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.records import ScoreBatch

__all__ = ["nearest_slots"]


def nearest_slots(batch: ScoreBatch, times_ns: NDArray[np.int64], step_ns: int) -> NDArray[np.intp]:
    """For each of the times [n], the position in `batch` of the nearest slot, of two the later; -1 = none within half a
    step. The slots must be distinct and in time order, as `ScoreBatch.merge` returns them."""
    slots = pd.Index(batch.event_time_ns)
    found: NDArray[np.intp] = slots.get_indexer(pd.Index(times_ns), method="nearest", tolerance=step_ns // 2)
    return found
