"""Masks: True = present, complements cover every step once, training sees every kind."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.imputer.masks import (
    MAX_STRIPE,
    complementary_stripes,
    missing_masks,
    stripe,
    training_masks,
)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 16, 32, 64])
def test_complementary_stripes_make_every_step_a_target_once(width: int) -> None:
    observed = np.ones(128, dtype=np.bool_)
    targets = [observed & ~cond for cond in complementary_stripes(128, width)]
    assert (targets[0] ^ targets[1]).all()


@pytest.mark.parametrize("width", [1, 5, 16])
def test_bands_are_as_wide_as_asked(width: int) -> None:
    mask = stripe(width * 6, width)
    assert mask[0]
    assert (np.flatnonzero(np.diff(mask.astype(int))) == width * np.arange(1, 6) - 1).all()


def test_phase_moves_the_bands() -> None:
    assert (stripe(128, 4, phase=4) == ~stripe(128, 4)).all()
    assert (stripe(128, 4, phase=1)[:-1] == stripe(128, 4)[1:]).all()


@pytest.mark.parametrize("width", [0, -1, 129])
def test_impossible_width_says_expected_and_found(width: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 128 steps, found {width}"):
        stripe(128, width)


def _longest_hidden_run(mask: np.ndarray) -> int:
    bounds = np.flatnonzero(np.diff(np.concatenate([[1], mask.astype(int), [1]])))
    return int((bounds[1::2] - bounds[::2]).max(initial=0))


def test_training_masks_hold_every_kind() -> None:
    masks = training_masks(np.random.default_rng(0), 4000, 128)
    assert masks.shape == (4000, 128)
    one_step = (masks[:, :-1] != masks[:, 1:]).all(axis=1)
    all_hidden = ~masks.any(axis=1)
    trailing = ~masks[:, -1] & (np.diff(masks.astype(int), axis=1) == -1).sum(axis=1).__eq__(1) & masks[:, 0]
    assert 0.18 < one_step.mean() < 0.27
    assert 0.03 < all_hidden.mean() < 0.08
    assert trailing.mean() > 0.08
    stripes = [mask for mask in masks if 2 <= _longest_hidden_run(mask) <= MAX_STRIPE]
    assert {_longest_hidden_run(mask) for mask in stripes} == set(range(2, MAX_STRIPE + 1))


def test_training_masks_repeat_with_their_seed() -> None:
    first, second, other = (training_masks(np.random.default_rng(seed), 64, 128) for seed in (5, 5, 6))
    assert (first == second).all()
    assert (first != other).any()


def test_missing_masks_touch_the_share_asked_for() -> None:
    masks = missing_masks(np.random.default_rng(1), 4000, 128, share=0.4)
    assert 0.28 < 1 - masks.all(axis=1).mean() < 0.42
    assert missing_masks(np.random.default_rng(1), 500, 128, share=0.0).all()
