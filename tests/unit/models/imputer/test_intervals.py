"""Bands of a series: they hold their share, lean on the card when there is little to see, and know their channels."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.imputer.intervals import BAND_LEVELS, series_bands

CARD = (0.5, 1.6, 4.0)


def test_bands_hold_their_share_of_new_readings_in_every_channel() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([0.2, 1.0, 3.0])
    bands = series_bands((rng.standard_t(4, (6000, 3)) * spread).astype(np.float32), CARD)
    new = np.abs(rng.standard_t(4, (6000, 3)) * spread)
    assert bands.shape == (3, 3)
    for level, band in zip(BAND_LEVELS, bands, strict=True):
        assert np.allclose((new <= band).mean(axis=0), level, atol=0.03)


def test_few_errors_lean_on_the_card() -> None:
    errors = np.random.default_rng(1).standard_normal((40, 1)).astype(np.float32) * 10
    few, many = series_bands(errors, CARD), series_bands(np.tile(errors, (200, 1)), CARD)
    assert CARD[2] < few[2, 0] < 0.5 * many[2, 0]  # 0.4 errors expected beyond the 99% band
    assert few[0, 0] == pytest.approx(many[0, 0], rel=0.5)  # 20 beyond the 50% band: they are believed


def test_channels_without_errors_take_the_series_bands_and_a_series_without_the_card() -> None:
    errors = np.random.default_rng(2).standard_normal((5000, 2)).astype(np.float32)
    errors[:, 1] = np.nan
    bands = series_bands(errors, CARD)
    assert np.allclose(bands[:, 1], bands[:, 0], rtol=0.04)
    assert np.allclose(series_bands(np.full((10, 2), np.nan, np.float32), CARD), np.array(CARD)[:, None])


def test_wrong_shapes_say_expected_and_found() -> None:
    with pytest.raises(ValueError, match="one for each of 3 levels, found 2"):
        series_bands(np.zeros((4, 1), np.float32), CARD[:2])
    with pytest.raises(ValueError, match=r"\[n, channel\], found \[4\]"):
        series_bands(np.zeros(4, np.float32), CARD)
