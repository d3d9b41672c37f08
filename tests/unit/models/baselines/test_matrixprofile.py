"""The matrix profile: the nearest neighbour is the obvious one, and shape counts where size does not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from stream_ad_models.baselines.matrixprofile import MatrixProfileScorer, Searched

from stream_ad.errors import ConfigError
from tests.contracts import check_scorer as suite

STEPS = 32


def _beats(n: int = 512, seed: int = 0) -> np.ndarray:
    """A steep rise and a slow fall every 32 steps, and a little noise, float32 [n, 1]."""
    t = np.arange(n) % 32
    beat = np.where(t < 4, t / 4, 1 - (t - 4) / 28)
    return (beat + 0.03 * np.random.default_rng(seed).standard_normal(n))[:, None].astype(np.float32)


def test_a_beat_of_another_shape_and_equal_size_scores_high() -> None:
    scorer = MatrixProfileScorer()
    arrays = scorer.fit(_beats()).arrays
    later = _beats(384, seed=1)
    turned, smaller = later.copy(), later.copy()
    turned[192:224] = later[192:224][::-1]
    smaller[192:224] = 0.6 * later[192:224]
    usual, shape, size = (suite.raw_of(suite.run(scorer, arrays, rows)) for rows in (later, turned, smaller))
    assert 176 <= int(shape.argmax()) < 240
    assert shape.max() > 3 * max(usual.max(), 0.01)
    assert shape.max() > 2 * size[192:224].max()


def test_the_nearest_subsequence_is_found() -> None:
    rng = np.random.default_rng(0)
    history, later = rng.standard_normal(300), rng.standard_normal(STEPS)
    history[100:105] = np.nan

    def shape(values: np.ndarray) -> np.ndarray:
        return (values - values.mean()) / values.std()

    distances = [np.square(shape(history[at : at + STEPS]) - shape(later)).sum() for at in range(300 - STEPS + 1)]
    nearest = int(np.nanargmin(distances))
    found = Searched(history).nearest([later, np.where(np.arange(STEPS) == 3, np.nan, later)])
    assert found[1] is None
    assert found[0] is not None
    assert found[0][0] == pytest.approx(distances[nearest])
    expected = later.mean() + later.std() * shape(history[nearest : nearest + STEPS])
    np.testing.assert_allclose(found[0][1], expected)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stumpy", None)
    with pytest.raises(ConfigError, match="expected stumpy") as caught:
        MatrixProfileScorer()
    assert "stream-ad[matrixprofile]" in caught.value.hint
