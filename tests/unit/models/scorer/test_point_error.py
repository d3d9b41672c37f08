"""The smoothed error of single points equals a loop over slots, and keeps to what is known."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.scorer.point_error import BACK_STEPS, PointError, PointErrorState

HOP = 16


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_equals_a_loop(ahead: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((12, HOP, channels)).astype(np.float32)
    errors[3, 2:5, 0] = np.nan
    point = PointError(PointError.learn(errors), HOP, ahead)
    blocks = np.arange(12)
    found = point.values(point.level(errors), blocks, 0, np.full(12, 11))
    rows = (np.square(np.nan_to_num(errors)).reshape(-1, channels) / point.means).mean(axis=1)
    width = max(2.0, 24.0 / channels ** (1 / 3))
    for slot in range(len(rows)):
        apart = np.arange(-BACK_STEPS, ahead * HOP + 1)
        weights = np.exp(-np.abs(apart) / width)
        near = slot + apart
        inside = (near >= 0) & (near < len(rows))
        expected = np.log((weights[inside] * rows[near[inside]]).sum() / weights.sum() + 0.01)
        assert found.reshape(-1)[slot] == pytest.approx(expected, abs=1e-6)


def test_nothing_after_what_is_known_counts() -> None:
    point = PointError(np.ones(1), HOP, ahead=2)
    levels = np.ones((6, HOP))
    changed = levels.copy()
    changed[4:] = 100.0
    asked, known = np.array([2, 3]), np.array([3, 3])
    before, after = (point.values(each, asked, 0, known) for each in (levels, changed))
    np.testing.assert_array_equal(before, after)


def test_slots_before_the_first_error_are_quiet() -> None:
    point = PointError(np.ones(2), HOP, ahead=0)
    found = point.values(np.ones((1, HOP)), np.array([3, 9]), 9, np.array([9, 9]))
    np.testing.assert_allclose(found[0], np.log(0.01))
    assert (found[1] > np.log(0.05)).all()


def test_a_track_in_pieces_says_what_all_at_once_says() -> None:
    errors = np.random.default_rng(0).standard_normal((40, HOP, 2)).astype(np.float32)
    point = PointError(np.ones(2), HOP, ahead=2)
    blocks = np.arange(40)
    whole = point.values(point.level(errors), blocks, 0, np.full(40, 39))
    track = PointErrorState(point, HOP)
    track.clear(5)
    said = []
    for first in range(0, 40, 4):
        track.push(errors[first : first + 4])
        told = np.arange(max(first - 2, 0), first + 2)
        said.append(track.values(5 + told, np.full(len(told), 5 + first + 3)))
        track.trim()
    np.testing.assert_allclose(np.concatenate(said), whole[:38], rtol=1e-12)
