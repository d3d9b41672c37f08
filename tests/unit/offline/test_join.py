"""The nearest-slot join against a naive search."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.offline.join import nearest_slots
from stream_ad.records import ScoreBatch

STEP_NS = 10


def batch(times: list[int]) -> ScoreBatch:
    n = len(times)
    wide = np.zeros((n, 1), np.float32)
    score, revision = np.zeros(n), np.zeros(n, np.int32)
    return ScoreBatch(
        "s", ("a",), np.array(times, np.int64), score, wide, wide, wide, wide, wide, revision, ("",) * n, "v"
    )


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=12, unique=True).map(sorted),
    st.lists(st.integers(-20, 320), max_size=12),
)
def test_each_time_gets_its_nearest_slot(slots: list[int], times: list[int]) -> None:
    """Within half a step; of two the later."""
    expected = []
    for time in times:
        distance, index = min((abs(slot - time), -index) for index, slot in enumerate(slots))
        expected.append(-index if 2 * distance <= STEP_NS else -1)
    assert nearest_slots(batch(slots), np.array(times, np.int64), STEP_NS).tolist() == expected


def test_times_of_today_keep_every_nanosecond() -> None:
    now = 1_790_000_000_123_456_789
    times = np.array([now - 6, now - 5, now + 5, now + 6])
    assert nearest_slots(batch([now]), times, STEP_NS).tolist() == [-1, 0, 0, -1]
