"""From distances to raw scores: alignment of windows to slots, and the combiner."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.memory.distances import NEUTRAL, MemoryDistance
from stream_ad_models.memory.slot_alignment import SlotAlignment, slot_weights
from stream_ad_models.scorer.combine import ScoreCombiner, attribution

HOP = 16


def distances(blocks: int, levels: int = 1, channels: int = 2) -> MemoryDistance:
    values = np.arange(blocks, dtype=np.float32)[:, None].repeat(levels, axis=1)
    return MemoryDistance(values, np.ones((blocks, levels, channels), np.float32))


@pytest.mark.parametrize("look_ahead", [0, 1, 2, 5])
@pytest.mark.parametrize("length", [16, 32, 128, 512])
def test_weights_sum_to_one_and_look_at_the_middle(length: int, look_ahead: int) -> None:
    weights = slot_weights(length, HOP, look_ahead)
    assert weights.shape == (HOP, look_ahead + 2)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    # Ends of the windows, in steps from the block's first slot; their weighted mean is what was wanted.
    ends = (np.arange(look_ahead + 2)) * HOP - 1
    wanted = np.minimum(np.arange(HOP) + length // 2, (look_ahead + 1) * HOP - 1)
    np.testing.assert_allclose(weights @ ends, wanted, atol=1e-4)


def test_alignment_interpolates_between_windows() -> None:
    alignment = SlotAlignment.of((32,), HOP, look_ahead=2)
    around = alignment.gather(distances(10), np.array([4]), 0, np.array([9]))
    # Window b ends at slot 16 b + 15: slot s of block 4 takes the one that ends at s + 16.
    np.testing.assert_allclose(alignment.values(around)[0], 4 + (np.arange(16) + 1) / 16, rtol=1e-6)
    assert alignment.parts(around).shape == (1, HOP, 2)
    np.testing.assert_allclose(alignment.parts(around), 1.0, rtol=1e-6)


def test_missing_windows_are_neutral() -> None:
    alignment = SlotAlignment.of((32,), HOP, look_ahead=2)
    asked = np.array([0, 9, 20, 4])
    around = alignment.gather(distances(10), asked, 0, np.array([9, 9, 9, 4]))
    found = around.log_ratio.reshape(4, 4)
    neutral = np.float32(NEUTRAL)
    np.testing.assert_array_equal(found[0], [neutral, 0, 1, 2])
    np.testing.assert_array_equal(found[1], [8, 9, neutral, neutral])
    np.testing.assert_array_equal(found[2], [neutral] * 4)
    np.testing.assert_array_equal(found[3], [3, 4, neutral, neutral])


def test_combiner_is_relative_to_the_held_out_quantile() -> None:
    rng = np.random.default_rng(0)
    held_out = [rng.standard_normal(1000), 5 + rng.standard_normal(1000)]
    combiner = ScoreCombiner.fit(held_out, [0.5, 0.5])
    expected = np.array([np.quantile(values, 0.99) for values in held_out])
    np.testing.assert_allclose(combiner.held_out_q99, expected)
    assert combiner.weights.sum() == pytest.approx(1.0)
    held_out_max = combiner.raw([np.array([combiner.held_out_q99[0]]), np.array([combiner.held_out_q99[1]])])
    np.testing.assert_allclose(held_out_max, np.log(2) / 2)
    grid = np.linspace(-50, 50, 101)
    raw = combiner.raw([grid, grid])
    assert (np.diff(raw) >= 0).all()
    assert (raw >= 0).all()
    assert np.isfinite(combiner.raw([np.array([1e4])] * 2)).all()
    again = ScoreCombiner.from_arrays(combiner.arrays())
    np.testing.assert_array_equal(again.raw([grid, grid]), raw)


def test_components_that_fluctuate_less_weigh_more() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    combiner = ScoreCombiner.fit([values, 4 * values, 100 + values], [1.0, 1.0, 2.0])
    np.testing.assert_allclose(combiner.weights, np.array([1.0, 0.5, 2.0]) / 3.5, rtol=1e-6)
    assert np.isfinite(ScoreCombiner.fit([np.zeros(10), values], [1.0, 1.0]).weights).all()


def test_attribution_sums_to_one_over_scored_channels() -> None:
    parts = np.array([[3.0, 1.0], [0.0, 0.0], [1e-30, 0.0]], np.float32)
    found = attribution(parts, np.array([True, False, True]))
    np.testing.assert_allclose(found, np.array([[0.75, 0.0, 0.25], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]), atol=1e-6)
