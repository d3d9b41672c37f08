"""Slots, closing and lateness against the obvious way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.detection.profiles import history_on_grid
from stream_ad.errors import DataError
from stream_ad.windowing.grid import Grid, infer_step_ns
from tests.reference.pipeline import place_all

SECOND = 1_000_000_000


@given(
    times=st.lists(st.integers(0, 200), min_size=1, max_size=60),
    step=st.integers(1, 9),
    lateness=st.integers(0, 5),
    revise=st.integers(0, 20),
)
@settings(deadline=None, max_examples=200)
def test_placements_are_those_of_the_obvious_way(times: list[int], step: int, lateness: int, revise: int) -> None:
    grid = Grid(step, anchor_ns=50, lateness_steps=lateness, revise_steps=revise)
    placed = [(slot, what.value) for slot, what in map(grid.place, times)]
    assert placed == place_all(times, step, 50, lateness, revise)


@given(st.integers(-5, 5_000), st.integers(1, 10**12), st.integers(0, 10**18))
def test_a_regular_time_is_its_slot_s_own_time(slot: int, step: int, anchor: int) -> None:
    grid = Grid(step, anchor, 0, 0)
    assert grid.slot_of(grid.time_of(slot)) == slot


@pytest.mark.parametrize("step_ns", [SECOND // 4, SECOND, 60 * SECOND, 300 * SECOND, 7_300_000_000])
@given(seed=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
def test_the_step_is_inferred_through_jitter_repeats_and_order(step_ns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = START + step_ns * np.arange(12) + rng.integers(-step_ns // 50, step_ns // 50 + 1, 12)
    shuffled = rng.permutation(np.concatenate([times, times[:3]]))
    inferred = infer_step_ns(shuffled.tolist())
    assert inferred is not None
    assert abs(inferred - step_ns) <= 0.05 * step_ns
    if step_ns % SECOND == 0:
        assert inferred == step_ns


START = 1_700_000_000 * SECOND


def test_too_few_times_infer_nothing() -> None:
    assert infer_step_ns([1, 2, 3, 3, 3, 3, 3, 3, 3]) is None


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
