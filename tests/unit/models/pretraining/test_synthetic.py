"""Synthetic series: z-normalised, seeded, and as various as the recipe says."""

from __future__ import annotations

import time

import numpy as np
import pytest
from stream_ad_models.pretraining.synthetic import WAVES, ar1, synthetic_series, synthetic_windows, wave


@pytest.fixture(scope="module")
def series() -> np.ndarray:
    return synthetic_series(np.random.default_rng(0), 600, 512)


def test_shape_type_and_scale(series: np.ndarray) -> None:
    assert series.shape == (600, 512)
    assert series.dtype == np.float32
    assert np.isfinite(series).all()
    assert np.abs(series.mean(axis=1)).max() < 1e-4
    spread = series.std(axis=1)
    assert ((np.abs(spread - 1) < 1e-3) | (spread < 1e-6)).all()
    assert (spread > 0.5).mean() > 0.97


def test_same_seed_same_series() -> None:
    first, second, other = (synthetic_series(np.random.default_rng(seed), 20, 256) for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_families_are_there(series: np.ndarray) -> None:
    distinct = np.array([len(np.unique(row)) for row in series])
    steps = np.diff(series, axis=1)
    assert 0.03 < (distinct == 2).mean() < 0.12  # binary
    assert 0.04 < ((distinct > 2) & (distinct < 60)).mean() < 0.25  # quantised, step and hold
    assert ((steps == 0).mean(axis=1) > 0.5).mean() > 0.08  # held
    assert (np.abs(series).max(axis=1) > 6).mean() > 0.01  # spiky


def test_dependence_runs_from_white_to_near_random_walk(series: np.ndarray) -> None:
    lag_one = (series[:, :-1] * series[:, 1:]).mean(axis=1)
    assert (lag_one > 0.95).mean() > 0.2
    assert (np.abs(lag_one) < 0.3).mean() > 0.05


@pytest.mark.parametrize("kind", WAVES)
def test_waves_repeat_every_cycle_with_about_unit_variance(kind: str) -> None:
    cycles = np.linspace(0, 4, 4000, endpoint=False)[None, :]
    values = wave(kind, cycles, np.array([[0.4]]))
    assert np.allclose(values[:, :1000], values[:, 1000:2000], atol=1e-6)
    assert 0.4 < values.std() < 1.8


def test_unknown_wave_says_expected_and_found() -> None:
    with pytest.raises(ValueError, match="found 'triangle'"):
        wave("triangle", np.zeros((1, 4)), np.array([[0.5]]))


def test_ar1_has_its_coefficient_and_unit_variance() -> None:
    rng = np.random.default_rng(2)
    coefficient = np.array([[0.0], [0.6], [0.95]])
    path = ar1(rng, coefficient, rng.standard_normal((3, 40_000)))
    assert np.allclose(path.var(axis=1), 1, atol=0.15)
    assert np.allclose([np.corrcoef(row[:-1], row[1:])[0, 1] for row in path], coefficient[:, 0], atol=0.03)


def test_windows_are_cut_from_the_series(series: np.ndarray) -> None:
    windows = synthetic_windows(np.random.default_rng(1), series[:1], 50, 128)
    every = np.lib.stride_tricks.sliding_window_view(series[0], 128)
    assert all((every == window).all(axis=1).any() for window in windows)
    with pytest.raises(ValueError, match="at most 512 steps, found 513"):
        synthetic_windows(np.random.default_rng(1), series, 1, 513)


def test_it_is_fast() -> None:
    started = time.process_time()
    synthetic_series(np.random.default_rng(0), 500, 1024)
    assert time.process_time() - started < 15.0
