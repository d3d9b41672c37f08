"""The seasonal baseline: what it takes for the cycle, and what breaks it."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.baselines.base import PointwiseSession
from stream_ad_models.baselines.seasonal import SeasonalScorer

from tests.contracts import check_scorer as suite

PERIOD = 48


def _rows(n: int = 960, seed: int = 0) -> np.ndarray:
    """A short pulse every 48 steps, and noise, float32 [n, 1]: nothing is out of range when a pulse is missing."""
    pulse = 4.0 * (np.arange(n) % PERIOD < 6)
    return (pulse + 0.3 * np.random.default_rng(seed).standard_normal(n))[:, None].astype(np.float32)


def _session(rows: np.ndarray) -> PointwiseSession:
    scorer = SeasonalScorer()
    return scorer.open(scorer.fit(rows).arrays)


def test_a_missed_cycle_scores_high() -> None:
    scorer = SeasonalScorer()
    arrays = scorer.fit(_rows()).arrays
    later = _rows(seed=1)[:480]
    missed = later.copy()
    missed[288:294] = missed[250:256]  # rest where the pulse was due
    usual, raw = suite.raw_of(suite.run(scorer, arrays, later)), suite.raw_of(suite.run(scorer, arrays, missed))
    assert 280 <= int(raw.argmax()) < 302
    assert raw.max() > 3 * max(usual.max(), 0.01)


@pytest.mark.parametrize("shift", [0, 5, 31])
def test_the_phase_is_the_windows_own(shift: int) -> None:
    session = _session(_rows())
    window = np.where(np.arange(shift, shift + 128) % PERIOD < 6, 4.0, 0.0)[:, None]
    expected = session.errors(session.normaliser.apply(window.astype(np.float32)).astype(np.float64), 127).expected
    np.testing.assert_allclose(session.normaliser.restore(expected), window, atol=0.3)


@pytest.mark.parametrize("kind", ["white", "walk", "trend", "constant"])
def test_where_nothing_repeats_there_is_no_cycle(kind: str) -> None:
    noise = np.random.default_rng(0).standard_normal(2000)
    values = {"white": noise, "walk": noise.cumsum(), "trend": np.arange(2000) + noise, "constant": np.ones(2000)}[kind]
    learned = SeasonalScorer().learn(values[:, None])
    assert learned.arrays["seasonal.periods"].tolist() == [1]


def test_the_period_outlives_holes() -> None:
    rows = _rows().astype(np.float64)
    rows[np.random.default_rng(1).random(rows.shape) < 0.2] = np.nan
    assert SeasonalScorer().learn(rows).arrays["seasonal.periods"].tolist() == [PERIOD]
