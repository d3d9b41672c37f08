"""Slots, closing and lateness against the reference; the step from times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
def test_placements_match_the_reference(times: list[int], step: int, lateness: int, revise: int) -> None:
    grid = Grid(step, anchor_ns=50, lateness_steps=lateness, revise_steps=revise)
    placed = [(slot, what.value) for slot, what in map(grid.place, times)]
    assert placed == place_all(times, step, 50, lateness, revise)


@given(st.integers(-5, 5_000), st.integers(1, 10**12), st.integers(0, 10**18))
def test_the_time_of_a_slot_belongs_to_the_slot(slot: int, step: int, anchor: int) -> None:
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
