"""Calibration: the asked rate comes out on fresh data of the same process, and nothing degenerate breaks it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import lfilter

from stream_ad.detection import calibration
from stream_ad.detection.calibration import RUN_STEPS, Calibration
from stream_ad.errors import DataError
from tests.reference import scores as naive

Raw = NDArray[np.float64]
Process = Callable[[np.random.Generator, int], Raw]


def exponential(rng: np.random.Generator, n: int) -> Raw:
    return rng.exponential(0.05, n)


def correlated(rng: np.random.Generator, n: int) -> Raw:
    return np.asarray(np.maximum(lfilter([1.0], [1.0, -0.6], rng.normal(size=n)), 0.0))


def spiky(rng: np.random.Generator, n: int) -> Raw:
    """A low bulk and rare spikes: what sums of log-excesses look like."""
    return np.asarray(rng.exponential(0.05, n) + (rng.random(n) < 0.003) * rng.exponential(0.7, n))


def mostly_zero(rng: np.random.Generator, n: int) -> Raw:
    return np.asarray((rng.random(n) < 0.02) * rng.exponential(0.3, n))


def heavy(rng: np.random.Generator, n: int) -> Raw:
    return 0.05 * rng.pareto(4, n)


@pytest.mark.parametrize("process", [exponential, correlated, spiky, mostly_zero, heavy])
@pytest.mark.parametrize(
    ("slots", "per_slot", "factor"),
    [(3_000, 1e-3, 3.0), (20_000, 1e-4, 3.0), (3_000, 1e-4, 6.0)],  # the last lies beyond the held-out slots
)
def test_fresh_data_exceed_the_threshold_at_the_wanted_rate(
    process: Process, slots: int, per_slot: float, factor: float
) -> None:
    fresh = process(np.random.default_rng(1), 400_000)
    rates = []
    for seed in range(15):
        fitted = Calibration.fit(process(np.random.default_rng(100 + seed), slots), 60.0, per_slot / 60)
        over = np.flatnonzero(fitted.score(fresh) >= 1)
        rates.append((np.diff(over) > RUN_STEPS).sum() / len(fresh))
    assert per_slot / factor < np.median(rates) < factor * per_slot


RAW = st.lists(
    st.sampled_from([0.0, 0.0, 0.1, 1.0]) | st.floats(0, 5) | st.floats(0, 0.1), min_size=20, max_size=150
).map(lambda x: np.array(x, dtype=np.float64))


@settings(deadline=None, max_examples=150)
@given(RAW, st.lists(st.floats(1e-12, 2.0), min_size=2, max_size=5))
def test_a_smaller_rate_never_lowers_a_threshold_that_is_positive_and_near_the_data(
    raw: Raw, rates: list[float]
) -> None:
    fitted = [Calibration.fit(raw, 1.0, rate) for rate in sorted(rates)]
    thresholds = [f.threshold for f in fitted]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[-1] > 0
    assert np.isfinite(thresholds[0])
    scores = fitted[0].score(raw)
    assert fitted[-1].score(raw).max() <= 4 + 1e-9
    assert np.quantile(scores, 0.9) <= 0.8 + 1e-9
    assert scores.max() == 0 or scores.max() >= min(1 / 1.1, 0.8) - 1e-9


@settings(deadline=None, max_examples=100)
@given(RAW, st.floats(0, 2), st.floats(1, 60))
def test_clusters_and_levels_match_the_reference(raw: Raw, level: float, wanted: float) -> None:
    run = min(RUN_STEPS, max(len(raw) // 50, 1))
    assert calibration._cluster_peaks(raw, level).tolist() == naive.cluster_peaks(raw.tolist(), level, run)
    levels, counts = calibration._candidates(raw)
    found = float(levels[calibration._first_reaching(counts, wanted)])
    assert found == naive.quantile_level(raw.tolist(), wanted, run)


@pytest.mark.parametrize("value", [0.0, 0.02, 3.0])
@pytest.mark.parametrize("slots", [20, 3_000])
def test_equal_scores(value: float, slots: int) -> None:
    fitted = Calibration.fit(np.full(slots, value), 60.0, 1 / 604_800)
    assert fitted.threshold == pytest.approx(1.25 * value if value else 0.1)
    assert fitted.detail


def test_one_held_out_anomaly_hardly_raises_the_threshold() -> None:
    raw = exponential(np.random.default_rng(0), 3_000)
    clean = Calibration.fit(raw, 60.0, 1 / 604_800).threshold
    raw[1_000] = 8.0
    assert clean < Calibration.fit(raw, 60.0, 1 / 604_800).threshold < 8.0 / 2


@pytest.mark.parametrize(
    ("raw", "step_s", "rate"),
    [
        (np.zeros(9), 1.0, 1.0),
        (np.zeros((20, 2)), 1.0, 1.0),
        (np.array([0.1] * 20 + [np.nan]), 1.0, 1.0),
        (np.array([0.1] * 20 + [np.inf]), 1.0, 1.0),
        (np.array([0.1] * 20 + [-0.1]), 1.0, 1.0),
        (np.zeros(20), 0.0, 1.0),
        (np.zeros(20), 1.0, np.nan),
    ],
)
def test_invalid_held_out_scores_and_rates_are_refused(raw: Raw, step_s: float, rate: float) -> None:
    with pytest.raises(DataError, match="expected"):
        Calibration.fit(raw, step_s, rate)
