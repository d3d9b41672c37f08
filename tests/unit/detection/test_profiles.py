"""A history on the grid of its series."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ad.detection.profiles import history_on_grid
from stream_ad.errors import DataError

SECOND = 1_000_000_000


def test_history_keeps_order_merges_slots_and_cuts_gaps() -> None:
    times = np.array([3, 0, 1, 1, 500, 501]) * SECOND
    values = np.array([[3, 3], [0, 0], [1, np.nan], [np.nan, 9], [5, 5], [6, 6]], dtype=np.float32)
    rows, step_ns = history_on_grid(times, values, SECOND, max_gap=4)
    assert step_ns == SECOND
    assert rows[:2].tolist() == [[0, 0], [1, 9]]
    assert np.isnan(rows[2]).all()
    assert rows[3].tolist() == [3, 3]
    assert np.isnan(rows[4:8]).all()
    assert rows[8:].tolist() == [[5, 5], [6, 6]]


def test_history_without_a_step_is_refused() -> None:
    with pytest.raises(DataError, match="expected a step"):
        history_on_grid(np.array([1, 2], dtype=np.int64), np.zeros((2, 1), np.float32), None, 4)
