"""Binary channels: their steps are scored by surprise, and get attribution."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from stream_ad_models.scorer.binary_channels import (
    BinaryChannelState,
    binary_ends,
    binary_states,
    held_out_surprise,
    step_surprise,
)
from stream_ad_models.scorer.imputation_scorer import ImputationScorer
from stream_ad_models.scorer.normaliser import Normaliser

from stream_ad.errors import ModelError
from stream_ad.ports import ScoredSlots, Window

HOP = 16


def normaliser_of(history: NDArray[np.float32]) -> Normaliser:
    return Normaliser.fit(history)


def plant(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Two cycles with noise, a fault bit that is never set, and a bit that changes every 200 rows."""
    rng = np.random.default_rng(seed)
    at = np.arange(rows)
    cycles = [np.sin(2 * np.pi * at / period) + 0.2 * rng.standard_normal(rows) for period in (40, 90)]
    return np.stack([*cycles, np.zeros(rows), at // 200 % 2], axis=1).astype(np.float32)


def states_of(column: list[float], like: list[float]) -> list[int]:
    history = np.array([like, np.sin(np.arange(len(like)))], np.float32).T
    normaliser = normaliser_of(history)
    assert list(normaliser.scored) == [False, True]
    rows = np.array([column, column], np.float32).T
    return [int(each) for each in binary_states(normaliser.apply(rows)[:, :1], binary_ends(normaliser))[:, 0]]


@pytest.mark.parametrize("like", [[0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
def test_states_are_zero_one_and_missing(like: list[float]) -> None:
    assert states_of([0, 1, float("nan")], like) == [0, 1, 3]


def test_other_values_are_a_third_state() -> None:
    assert states_of([0, 0.5, 2, -1, 1], [0, 0, 1, 0, 1, 1]) == [0, 2, 2, 2, 1]


def test_surprise_is_minus_the_log_of_the_share_among_steps_from_the_same_state() -> None:
    states = np.array([0, 0, 0, 1, 0, 0, 0, 0, 1, 1])[:, None]  # from 0: 5 stay, 2 leave
    steps = step_surprise(states)
    assert steps[0, 0, 0] == pytest.approx(-np.log((5 + 0.5 / 3) / 7.5))
    assert steps[0, 0, 1] == pytest.approx(-np.log((2 + 0.5 / 3) / 7.5))
    assert steps[0, 0, 2] == pytest.approx(-np.log((0.5 / 3) / 7.5))


def test_staying_in_an_unseen_state_and_missing_readings_have_no_surprise() -> None:
    steps = step_surprise(np.zeros((100, 1), np.int64))
    assert steps[0, 0, 1] > 5
    assert steps[0, 1, 1] == steps[0, 2, 2] == 0
    assert not steps[0, 3].any()
    assert not steps[0, :, 3].any()


def test_a_channel_without_readings_has_no_surprise() -> None:
    assert not step_surprise(np.full((100, 1), 3)).any()


def test_held_out_surprise_uses_the_other_half() -> None:
    states = np.concatenate([np.zeros(50, np.int64), np.arange(50) % 2])[:, None]
    surprise = held_out_surprise(states)
    assert surprise[:50].max() < surprise[50:].max()  # the second half's changes were never seen in the first


def test_state_gives_equal_values_window_by_window() -> None:
    history, rows = plant(2000), plant(400, seed=1)
    rows[300, 2] = 1
    normaliser = normaliser_of(history)
    binary = ~normaliser.scored
    steps = step_surprise(binary_states(normaliser.apply(history)[:, binary], binary_ends(normaliser)))
    z = normaliser.apply(rows)[:, binary]
    windows = np.stack([z[end - 128 : end] for end in range(128, 401, HOP)])
    whole, single = (BinaryChannelState(normaliser, steps, -4.0, HOP, 2) for _ in range(2))
    for state in (whole, single):
        state.clear(7)
    whole.push(windows)
    for window in windows:
        single.push(window[None])
    blocks = np.arange(9, 20)
    for a, b in zip(whole.values(blocks, blocks + 2), single.values(blocks, blocks + 2), strict=True):
        np.testing.assert_allclose(a, b)
    assert whole.values(blocks, blocks + 2)[0].max() > -4.0


def scored(rows: NDArray[np.float32], history: NDArray[np.float32]) -> ScoredSlots:
    scorer = ImputationScorer(None)
    session = scorer.open(scorer.fit(history).arrays)
    empty = np.full((scorer.window_steps - HOP, rows.shape[1]), np.nan, np.float32)
    padded = np.concatenate([empty, rows])
    windows = [
        Window(padded[end + 1 - HOP : end + 1 - HOP + 128], end, max(end - 47, 0), max(end - 31, 0))
        for end in range(HOP - 1, len(rows), HOP)
    ]
    scores = scorer.score([(session, window) for window in windows])
    return ScoredSlots(
        0,
        np.concatenate([each.raw for each in scores]),
        *(np.concatenate([getattr(each, name) for each in scores]) for name in ("expected", "lower", "upper")),
        np.concatenate([each.attribution for each in scores]),
    )


def test_an_unseen_fault_bit_raises_the_score_and_gets_attribution() -> None:
    history, rows = plant(3000), plant(640, seed=1)
    calm = scored(rows, history)
    rows[400, 2] = 1
    loud = scored(rows, history)
    assert loud.raw[400] > 1.1 * calm.raw[400]
    assert loud.attribution[400, 2] > 0.05 > calm.attribution[400, 2]
    np.testing.assert_allclose(loud.attribution.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(loud.raw[:300], calm.raw[:300])


def test_a_bit_with_its_usual_steps_gets_hardly_any_attribution() -> None:
    history, rows = plant(3000), plant(640, seed=1)
    assert scored(rows, history).attribution[:, 3].max() < 0.02


def test_a_profile_without_binary_steps_is_refused() -> None:
    scorer = ImputationScorer(None)
    arrays = dict(scorer.fit(plant(1000)).arrays)
    del arrays["flags.steps"]
    with pytest.raises(ModelError, match=r"found no flags\.steps"):
        scorer.open(arrays)
