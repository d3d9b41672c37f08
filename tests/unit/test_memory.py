"""The window memory equals its naive twin, survives a round trip, and keeps its promises at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stream_ad_models.memory import NEUTRAL, WindowMemory
from stream_ad_models.normaliser import Normaliser
from stream_ad_models.window_stats import Blocks, check_lengths, window_stats

from stream_ad.errors import ConfigError, DataError
from tests.naive_memory import NaiveMemory, features

HOP = 8
LENGTHS = (8, 16, 64)


def rows(n: int, channels: int = 2, seed: int = 0, missing: float = 0.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    out = rng.standard_normal((n, channels)).cumsum(axis=0).astype(np.float32) * 0.3
    out[rng.random(out.shape) < missing] = np.nan
    return out


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.45])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_naive_twin(length: int, missing: float) -> None:
    history, later = rows(320, missing=missing), rows(160, seed=1, missing=missing)
    later[40:120, 1] = np.nan
    later[80:160] = np.nan
    memory, held_out = WindowMemory.fit(history, LENGTHS, HOP, capacity=1000)
    naive = NaiveMemory(history, length, HOP)
    at = memory.lengths.index(length)
    found = memory.read(Blocks.of(later, HOP), new=20)
    np.testing.assert_allclose(memory.levels[at].edge, naive.edge, rtol=1e-4)
    np.testing.assert_allclose(held_out.log_ratio[:, at], naive.held_out(), atol=1e-3)
    np.testing.assert_allclose(found.log_ratio[:, at], naive.read(later), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), missing=st.floats(0, 0.9), blocks=st.integers(1, 20))
def test_statistics_equal_the_naive_ones(seed: int, missing: float, blocks: int) -> None:
    values = rows(blocks * HOP, 3, seed, missing)
    found = window_stats(Blocks.of(values, HOP), LENGTHS, HOP)
    for length in LENGTHS:
        expected = np.stack([features(values, (block + 1) * HOP - 1, length) for block in range(blocks)])
        np.testing.assert_array_equal(found[length].present, ~np.isnan(expected[..., 0]))
        np.testing.assert_allclose(found[length].values, np.nan_to_num(expected), atol=1e-5)


def test_statistics_do_not_depend_on_where_the_stream_began() -> None:
    blocks = Blocks.of(rows(40 * HOP), HOP)
    whole, tail = window_stats(blocks, LENGTHS, HOP), window_stats(blocks.last(12), LENGTHS, HOP)
    for length in LENGTHS:
        np.testing.assert_array_equal(whole[length].values[-5:], tail[length].values[-5:])


def test_reading_block_by_block_is_reading_at_once() -> None:
    memory, _ = WindowMemory.fit(rows(400), LENGTHS, HOP, capacity=1000)
    later = Blocks.of(rows(240, seed=2), HOP)
    whole = memory.read(later, new=len(later))
    for block in range(len(later)):
        first = max(block - memory.reach_blocks, 0)
        part = Blocks(*(getattr(later, name)[first : block + 1] for name in Blocks.__slots__))
        one = memory.read(part, new=1)
        np.testing.assert_allclose(one.log_ratio[0], whole.log_ratio[block], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one.shares[0], whole.shares[block], rtol=1e-3, atol=1e-5)


def test_shares_are_the_squared_ratio_and_name_the_channel() -> None:
    memory, _ = WindowMemory.fit(rows(400), (HOP,), HOP, capacity=1000)
    later = rows(64, seed=2)
    later[:, 1] += 50
    found = memory.read(Blocks.of(later, HOP), new=8)
    ratio = np.exp(found.log_ratio[:, 0]) - 0.1
    np.testing.assert_allclose(found.shares[:, 0].sum(axis=1), ratio**2, rtol=1e-3)
    assert (found.shares[:, 0, 1] > 10 * found.shares[:, 0, 0]).all()


def test_nothing_read_is_neutral() -> None:
    memory, _ = WindowMemory.fit(rows(400), LENGTHS, HOP, capacity=1000)
    silent = memory.read(Blocks.of(np.full((40, 2), np.nan, np.float32), HOP), new=5)
    np.testing.assert_array_equal(silent.log_ratio, np.float32(NEUTRAL))
    assert not silent.shares.any()


def test_half_filled_windows_are_read_and_emptier_ones_are_neutral() -> None:
    memory, _ = WindowMemory.fit(rows(400), (64,), HOP, capacity=1000)
    found = memory.read(Blocks.of(rows(64, seed=2), HOP), new=8)
    np.testing.assert_array_equal(found.log_ratio[:3, 0], np.float32(NEUTRAL))
    assert (found.log_ratio[3:, 0] != np.float32(NEUTRAL)).all()


def test_short_history_leaves_long_lengths_out() -> None:
    assert WindowMemory.fit(rows(128), LENGTHS, HOP, capacity=1000)[0].lengths == [8, 16]
    assert WindowMemory.fit(rows(256), LENGTHS, HOP, capacity=1000)[0].lengths == [8, 16, 64]


def test_capacity_thins_the_memory_evenly() -> None:
    memory, held_out = WindowMemory.fit(rows(1600), LENGTHS, HOP, capacity=50)
    assert [len(level.windows) for level in memory.levels] == [50, 50, 50]
    assert len(held_out) == 200
    assert held_out.log_ratio.max() <= np.log(1.1) + 1e-6


def test_arrays_round_trip() -> None:
    memory, _ = WindowMemory.fit(rows(400), LENGTHS, HOP, capacity=100)
    again = WindowMemory.from_arrays(memory.arrays("m"), "m", HOP)
    later = Blocks.of(rows(240, seed=2), HOP)
    np.testing.assert_array_equal(again.read(later, 30).log_ratio, memory.read(later, 30).log_ratio)


def test_lengths_are_checked() -> None:
    for lengths in ((), (16, 8), (8, 24), (12,)):
        with pytest.raises(ConfigError, match="rising powers of two times 8"):
            check_lengths(lengths, HOP)


def test_normaliser() -> None:
    history = np.stack([np.full(50, 5.0), np.arange(50) % 2, np.ones(50), np.linspace(0, 1, 50), np.full(50, np.nan)])
    found = Normaliser.fit(history.T.astype(np.float32))
    np.testing.assert_array_equal(found.scored, [True, False, True, True, False])
    np.testing.assert_array_equal(found.constant[:3], [True, False, True])
    z = found.apply(history.T.astype(np.float32))
    assert abs(z[:, 3]).max() < 2
    np.testing.assert_array_equal(z[:, 0], 0)
    np.testing.assert_allclose(found.restore(z)[:, 3], history[3], atol=1e-6)
    assert found.apply(np.full((1, 5), 1e9, np.float32)).max() == 100
    again = Normaliser.from_arrays(found.arrays())
    np.testing.assert_array_equal(again.apply(history.T.astype(np.float32)), z)
    with pytest.raises(DataError, match="found none"):
        Normaliser.fit(np.full((50, 2), np.nan, np.float32))


def test_a_series_of_flags_alone_is_scored() -> None:
    flags = np.stack([np.arange(50) % 2, np.zeros(50)], axis=1).astype(np.float32)
    np.testing.assert_array_equal(Normaliser.fit(flags).scored, [True, True])
