"""The one-step forecast: exact where there is a line, held out by halves, at ease with missing readings."""

from __future__ import annotations

import numpy as np
from stream_ad_models.scorer.forecast import LAGS, fit_forecast, forecast, forecast_errors, held_out_errors


def waves(n: int = 600) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    time = np.arange(n)[:, None]
    return np.sin(2 * np.pi * time / np.array([20.0, 33.0]))


def test_a_sum_of_sines_is_a_line_of_its_past() -> None:
    z = waves()
    error = z - forecast(z, fit_forecast(z))
    assert np.abs(error[LAGS:]).max() < 0.02


def test_equals_a_loop_and_a_batch_of_windows() -> None:
    z = np.random.default_rng(0).standard_normal((60, 3))
    coefficients = np.random.default_rng(1).standard_normal((1 + LAGS, 3))
    expected = forecast(z, coefficients)
    for step in range(LAGS, 60):
        for channel in range(3):
            by_hand = coefficients[0, channel] + sum(
                coefficients[lag, channel] * z[step - lag, channel] for lag in range(1, LAGS + 1)
            )
            assert abs(expected[step, channel] - by_hand) < 1e-9
    batch = forecast(np.stack([z[:40], z[20:]]), coefficients)
    np.testing.assert_allclose(batch[0, LAGS:], expected[LAGS:40])
    np.testing.assert_allclose(batch[1, LAGS:], expected[20 + LAGS :])


def test_the_last_reading_stands_for_missing_ones() -> None:
    z = np.linspace(0, 1, 80)[:, None].repeat(2, axis=1)
    z[40:44, 0] = np.nan
    z[:10, 1] = np.nan
    filled = z.copy()
    filled[40:44, 0] = z[39, 0]
    filled[:10, 1] = z[10, 1]
    coefficients = np.random.default_rng(1).standard_normal((1 + LAGS, 2))
    np.testing.assert_allclose(forecast(z, coefficients), forecast(filled, coefficients))
    assert np.isfinite(forecast(np.full((40, 2), np.nan), coefficients)).all()


def test_held_out_errors_do_not_know_their_own_half() -> None:
    rng = np.random.default_rng(0)
    z = np.concatenate([waves(400), rng.standard_normal((400, 2))])
    held_out, own = held_out_errors(z), z - forecast(z, fit_forecast(z[:400]))
    assert held_out.shape == z.shape
    assert np.isnan(held_out[0]).all()
    np.testing.assert_allclose(held_out[400:], own[400:])  # the second half under the first half's line
    assert np.square(held_out[LAGS:400]).mean() > 0.2  # the waves under the noise's line


def test_an_error_needs_a_reading_and_one_just_before() -> None:
    z = waves(80)
    z[40, 0] = np.nan
    errors = forecast_errors(z, fit_forecast(waves()))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(errors[:, 0])), [0, 40, 41])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(errors[:, 1])), [0])
