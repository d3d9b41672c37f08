"""Prediction intervals of a series: coverage, shrinkage towards the card with few errors, one per channel."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.imputer.intervals import INTERVAL_LEVELS, series_intervals

CARD = (0.5, 1.6, 4.0)


def test_intervals_hold_their_share_of_new_readings_in_every_channel() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([0.2, 1.0, 3.0])
    intervals = series_intervals((rng.standard_t(4, (6000, 3)) * spread).astype(np.float32), CARD)
    new = np.abs(rng.standard_t(4, (6000, 3)) * spread)
    assert intervals.shape == (3, 3)
    for level, half in zip(INTERVAL_LEVELS, intervals, strict=True):
        assert np.allclose((new <= half).mean(axis=0), level, atol=0.03)


def test_few_errors_shrink_towards_the_card() -> None:
    errors = np.random.default_rng(1).standard_normal((40, 1)).astype(np.float32) * 10
    few, many = series_intervals(errors, CARD), series_intervals(np.tile(errors, (200, 1)), CARD)
    assert CARD[2] < few[2, 0] < 0.5 * many[2, 0]  # 0.4 errors expected outside the 99% interval
    assert few[0, 0] == pytest.approx(many[0, 0], rel=0.5)  # 20 outside the 50% interval outweigh the card


def test_channels_without_errors_use_the_series_or_the_card() -> None:
    errors = np.random.default_rng(2).standard_normal((5000, 2)).astype(np.float32)
    errors[:, 1] = np.nan
    intervals = series_intervals(errors, CARD)
    assert np.allclose(intervals[:, 1], intervals[:, 0], rtol=0.04)
    assert np.allclose(series_intervals(np.full((10, 2), np.nan, np.float32), CARD), np.array(CARD)[:, None])


def test_wrong_shapes_say_expected_and_found() -> None:
    with pytest.raises(ValueError, match="one for each of 3 levels, found 2"):
        series_intervals(np.zeros((4, 1), np.float32), CARD[:2])
    with pytest.raises(ValueError, match=r"\[n, channel\], found \[4\]"):
        series_intervals(np.zeros(4, np.float32), CARD)
