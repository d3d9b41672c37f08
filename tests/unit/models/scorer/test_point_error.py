"""The smoothed error of single points equals a loop over slots, and keeps to what is known."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.scorer.point_error import BACK_STEPS, PointError, PointErrorState

HOP = 16


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("look_ahead", [0, 1, 3])
def test_equals_a_loop(look_ahead: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((12, HOP, channels)).astype(np.float32)
    errors[3, 2:5, 0] = np.nan
    point = PointError(PointError.learn(errors), HOP, look_ahead)
    blocks = np.arange(12)
    found = point.values(point.level(errors), blocks, 0, np.full(12, 11))
    rows = (np.square(np.nan_to_num(errors)).reshape(-1, channels) / point.means).mean(axis=1)
    width = max(2.0, 24.0 / channels ** (1 / 3))
    for slot in range(len(rows)):
        apart = np.arange(-BACK_STEPS, look_ahead * HOP + 1)
        weights = np.exp(-np.abs(apart) / width)
        near = slot + apart
        inside = (near >= 0) & (near < len(rows))
        expected = np.log((weights[inside] * rows[near[inside]]).sum() / weights.sum() + 0.01)
        assert found.reshape(-1)[slot] == pytest.approx(expected, abs=1e-6)


def test_nothing_after_what_is_known_counts() -> None:
    point = PointError(np.ones(1), HOP, look_ahead=2)
    levels = np.ones((6, HOP))
    changed = levels.copy()
    changed[4:] = 100.0
    asked, known = np.array([2, 3]), np.array([3, 3])
    before, after = (point.values(each, asked, 0, known) for each in (levels, changed))
    np.testing.assert_array_equal(before, after)


def test_slots_before_the_first_error_are_quiet() -> None:
    point = PointError(np.ones(2), HOP, look_ahead=0)
    found = point.values(np.ones((1, HOP)), np.array([3, 9]), 9, np.array([9, 9]))
    np.testing.assert_allclose(found[0], np.log(0.01))
    assert (found[1] > np.log(0.05)).all()


def test_state_gives_equal_values_pushed_in_pieces() -> None:
    errors = np.random.default_rng(0).standard_normal((40, HOP, 2)).astype(np.float32)
    point = PointError(np.ones(2), HOP, look_ahead=2)
    blocks = np.arange(40)
    whole = point.values(point.level(errors), blocks, 0, np.full(40, 39))
    state = PointErrorState(point, HOP)
    state.clear(5)
    found_values = []
    for first in range(0, 40, 4):
        state.push(errors[first : first + 4])
        emitted = np.arange(max(first - 2, 0), first + 2)
        found_values.append(state.values(5 + emitted, np.full(len(emitted), 5 + first + 3)))
        state.trim()
    np.testing.assert_allclose(np.concatenate(found_values), whole[:38], rtol=1e-12)
