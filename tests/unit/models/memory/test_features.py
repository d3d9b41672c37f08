"""Features of windows equal loops over windows and channels, and are blind to what they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stream_ad_models.memory.features import LEVELS, SHAPE, SPECTRUM, Features, FeatureSet

from tests.reference.memory import features, shape, spectrum

HOP = 16
NAIVE = {"levels": features, "spectrum": spectrum, "shape": shape}


def rows(n: int, channels: int = 2, seed: int = 0, missing: float = 0.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    out = rng.standard_normal((n, channels)).cumsum(axis=0).astype(np.float32) * 0.3
    out[rng.random(out.shape) < missing] = np.nan
    return out


def of(family: FeatureSet, values: NDArray[np.float32], new: int) -> Features:
    return family.of(values, family.lengths, HOP, new)


@pytest.mark.parametrize("family", [LEVELS, SPECTRUM, SHAPE], ids=lambda family: family.name)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), missing=st.floats(0, 0.9), blocks=st.integers(1, 20))
def test_equal_the_naive_ones(family: FeatureSet, seed: int, missing: float, blocks: int) -> None:
    values = rows(blocks * HOP, 3, seed, missing)
    found = of(family, values, blocks)
    assert found.values.shape == (len(family.lengths), blocks, 3, family.size)
    for at, length in enumerate(family.lengths):
        expected = np.stack([NAIVE[family.name](values, (b + 1) * HOP - 1, length) for b in range(blocks)])
        np.testing.assert_array_equal(found.present[at], ~np.isnan(expected[..., 0]))
        np.testing.assert_allclose(found.values[at], np.nan_to_num(expected), atol=1e-4)


@pytest.mark.parametrize("family", [LEVELS, SPECTRUM, SHAPE], ids=lambda family: family.name)
def test_do_not_depend_on_where_the_stream_began(family: FeatureSet) -> None:
    values = rows(40 * HOP)
    whole = of(family, values, 5)
    tail = of(family, values[-(family.lengths[-1] + 4 * HOP) :], 5)
    np.testing.assert_array_equal(whole.present, tail.present)
    np.testing.assert_allclose(whole.values, tail.values, atol=1e-6)


def test_spectrum_is_blind_to_level_and_phase_and_sees_the_period() -> None:
    time = np.arange(256)[:, None]

    def wave(period: int, phase: float) -> NDArray[np.float32]:
        return np.sin(2 * np.pi * time / period + phase).astype(np.float32)

    first, moved, faster = (of(SPECTRUM, each, 1).values for each in (wave(16, 0), wave(16, 2) + 7, wave(4, 0)))
    np.testing.assert_allclose(first, moved, atol=1e-4)
    assert np.abs(first - faster).max() > 0.3


def test_shape_is_blind_to_level_and_nearly_to_size() -> None:
    ramp = np.linspace(-3, 3, 256, dtype=np.float32)[:, None]
    first, moved = of(SHAPE, ramp, 1).values, of(SHAPE, 4 * ramp + 50, 1).values
    np.testing.assert_allclose(first, moved, atol=0.35)
    assert np.abs(first - of(SHAPE, -ramp, 1).values).max() > 1.0
