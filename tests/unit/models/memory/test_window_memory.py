"""The window memory equals its reference, admits windows by its rule, and survives a round trip."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from stream_ad_models.memory.distances import NEUTRAL, MemoryDistance
from stream_ad_models.memory.features import LEVELS
from stream_ad_models.memory.window_memory import WindowMemory
from stream_ad_models.memory.window_stats import check_lengths
from stream_ad_models.scorer.normaliser import Normaliser

from stream_ad.errors import ConfigError, DataError
from tests.reference.memory import NaiveMemory

HOP = 8
LENGTHS = (8, 16, 64)
FAMILY = dataclasses.replace(LEVELS, lengths=LENGTHS)


def rows(n: int, channels: int = 2, seed: int = 0, missing: float = 0.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    out = rng.standard_normal((n, channels)).cumsum(axis=0).astype(np.float32) * 0.3
    out[rng.random(out.shape) < missing] = np.nan
    return out


def fitted(n: int = 400, capacity: int = 1000) -> WindowMemory:
    return WindowMemory.fit(FAMILY, rows(n), HOP, capacity)[0]


def read(memory: WindowMemory, later: NDArray[np.float32]) -> MemoryDistance:
    return memory.read(later, len(later) // HOP)


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.45])
@pytest.mark.parametrize("length", LENGTHS)
def test_memory_equals_the_reference(length: int, missing: float) -> None:
    history, later = rows(320, missing=missing), rows(160, seed=1, missing=missing)
    later[40:120, 1] = np.nan
    later[80:160] = np.nan
    memory, held_out = WindowMemory.fit(FAMILY, history, HOP, capacity=1000)
    naive = NaiveMemory(history, length, HOP)
    at = memory.lengths.index(length)
    np.testing.assert_allclose(memory.held_out_max[at], naive.held_out_max, rtol=1e-4)
    np.testing.assert_allclose(held_out.log_ratio[:, at], naive.held_out(), atol=1e-3)
    np.testing.assert_allclose(read(memory, later).log_ratio[:, at], naive.read(later), atol=1e-3)


@pytest.mark.parametrize("cuts", [(), (7, 30, 31)])
@pytest.mark.parametrize("length", LENGTHS)
def test_online_memory_equals_the_reference_for_any_cut_of_the_stream(length: int, cuts: tuple[int, ...]) -> None:
    gap, span = 3, 9
    history, later = rows(320), rows(480, seed=1, missing=0.05)
    memory = fitted(320)
    naive = NaiveMemory(history, length, HOP)
    online, distances = memory.online(gap, span), []
    cuts_at = [0, *cuts, len(later) // HOP]
    for first, stop in pairwise(cuts_at):
        begin = max(first - memory.reach_blocks, 0) * HOP
        reading = memory.read(later[begin : stop * HOP], stop - first, online)
        distances.append(reading.log_ratio[:, memory.lengths.index(length)])
    expected = naive.read_with_online_memory(later, gap, span, admission=0.5)
    np.testing.assert_allclose(np.concatenate(distances), expected, atol=1e-3)
    static = naive.read(later)
    assert (expected <= static + 1e-6).all()
    assert (expected < static - 0.1).any()


def test_windows_unlike_the_history_are_not_stored() -> None:
    memory = fitted(320)
    quiet = rows(320)
    strange = quiet.copy()
    strange[80:240] += 40.0  # a lasting anomaly stays one
    online = memory.online(2, 30)
    reading = memory.read(strange, len(strange) // HOP, online)
    assert (reading.log_ratio[20:28] > 1.0).all()


def test_distances_do_not_depend_on_block_size() -> None:
    memory = fitted()
    later = rows(240, seed=2)
    whole = read(memory, later)
    for block in range(len(later) // HOP):
        first = max(block - memory.reach_blocks, 0) * HOP
        one = memory.read(later[first : (block + 1) * HOP], 1)
        np.testing.assert_allclose(one.log_ratio[0], whole.log_ratio[block], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one.shares[0], whole.shares[block], rtol=1e-3, atol=1e-5)


def test_shares_split_the_squared_ratio_by_channel() -> None:
    memory = fitted()
    later = rows(64, seed=2)
    later[:, 1] += 50
    found = read(memory, later)
    ratio = np.exp(found.log_ratio[:, 0]) - 0.1
    np.testing.assert_allclose(found.shares[:, 0].sum(axis=1), ratio**2, rtol=1e-3)
    assert (found.shares[:, 0, 1] > 10 * found.shares[:, 0, 0]).all()


def test_windows_without_readings_are_neutral() -> None:
    silent = read(fitted(), np.full((40, 2), np.nan, np.float32))
    np.testing.assert_array_equal(silent.log_ratio, np.float32(NEUTRAL))
    assert not silent.shares.any()


def test_windows_with_less_than_half_of_the_readings_are_neutral() -> None:
    memory, _ = WindowMemory.fit(dataclasses.replace(LEVELS, lengths=(64,)), rows(400), HOP, capacity=1000)
    found = read(memory, rows(64, seed=2))
    np.testing.assert_array_equal(found.log_ratio[:3, 0], np.float32(NEUTRAL))
    assert (found.log_ratio[3:, 0] != np.float32(NEUTRAL)).all()


def test_short_history_leaves_long_lengths_out() -> None:
    assert fitted(128).lengths == [8, 16]
    assert fitted(256).lengths == [8, 16, 64]


def test_capacity_thins_the_memory_evenly() -> None:
    memory, held_out = WindowMemory.fit(FAMILY, rows(1600), HOP, capacity=50)
    assert memory.stored.codes.shape[::2] == (3, 10)
    assert all(45 <= number <= 50 for number in memory.stored.norms.isfinite().sum(dim=1).tolist())
    assert len(held_out) == 200
    assert (held_out.log_ratio > np.log(1.1) + 1e-6).mean(axis=0) == pytest.approx(0.03, abs=0.005)


def test_anomalies_in_the_history_are_not_stored() -> None:
    history, strange = rows(3200), rows(64, seed=2)
    strange[16:48] += 30.0
    clean, _ = WindowMemory.fit(FAMILY, history, HOP, capacity=1000)
    for at in (700, 1500, 2300):  # 96 of 3,200 rows
        history[at : at + 32] += 30.0
    dirty, _ = WindowMemory.fit(FAMILY, history, HOP, capacity=1000)
    np.testing.assert_allclose(dirty.held_out_max[0], clean.held_out_max[0], rtol=0.5)
    assert read(clean, strange).log_ratio[3:5, 0].min() > 1.0
    assert read(dirty, strange).log_ratio[3:5, 0].min() > 0.3


def test_arrays_round_trip() -> None:
    memory = fitted(capacity=100)
    again = WindowMemory.from_arrays("levels", memory.arrays("m"), "m", HOP)
    later = rows(240, seed=2)
    np.testing.assert_array_equal(read(again, later).log_ratio, read(memory, later).log_ratio)


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


def test_binary_channels_are_scored_where_there_are_no_others() -> None:
    binary = np.stack([np.arange(50) % 2, np.zeros(50)], axis=1).astype(np.float32)
    np.testing.assert_array_equal(Normaliser.fit(binary).scored, [True, True])
