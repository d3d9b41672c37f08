"""What the closed form is for: ties between channels, stuck sensors, a score that ends with the fault."""

from __future__ import annotations

import numpy as np
import pytest
from stream_ad_models.scorer.gaussian_scorer import GaussianScorer

from stream_ad.ports import Window
from tests.contracts.check_scorer import raw_of, run, windows


def plant(rows: int, seed: int = 0) -> np.ndarray:
    """Two channels that follow a common load with separate noise, and one without a tie."""
    rng = np.random.default_rng(seed)
    load = np.convolve(rng.standard_normal(rows + 50), np.ones(50) / 50, "valid")[:rows] * 5
    noise = 0.1 * rng.standard_normal((rows, 3))
    alone = np.sin(np.arange(rows) / 9)
    return (np.stack([load, 2 * load + 1, alone], axis=1) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return dict(GaussianScorer().fit(plant(2000)).arrays)


def scored(arrays: dict[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    results = run(GaussianScorer(), arrays, rows)
    return raw_of(results), np.concatenate([each.attribution for each in results])


START, STOP = 400, 460


def test_a_broken_tie_is_found_though_each_channel_looks_as_ever(arrays: dict[str, np.ndarray]) -> None:
    rows = plant(700, seed=1)
    broken = rows.copy()
    broken[START:STOP, 0] = rows[100 : 100 + STOP - START, 0]
    raw, _ = scored(arrays, broken)
    normal, _ = scored(arrays, rows)
    assert raw[START:STOP].max() > 1.3 * normal.max()


@pytest.mark.parametrize("channel", [0, 1])
def test_a_stuck_sensor_is_found_and_named(arrays: dict[str, np.ndarray], channel: int) -> None:
    rows = plant(700, seed=2)
    normal, _ = scored(arrays, rows)
    rows[START:STOP, channel] = rows[START - 1, channel]
    raw, attribution = scored(arrays, rows)
    assert raw[START:STOP].max() > 1.3 * normal.max()
    assert attribution[START + int(np.argmax(raw[START:STOP]))].argmax() == channel


def test_the_score_ends_with_the_fault(arrays: dict[str, np.ndarray]) -> None:
    rows = plant(900, seed=3)
    normal, _ = scored(arrays, rows)
    rows[START:STOP, 0] += 3
    raw, _ = scored(arrays, rows)
    assert raw[START : STOP - 5].min() > normal.max()
    assert raw[STOP + 16 :].max() < 1.2 * normal.max()


def test_a_constant_added_to_a_channel_in_history_and_stream_changes_nothing(arrays: dict[str, np.ndarray]) -> None:
    offset = np.array([1000.0, -50.0, 0.0], np.float32)
    moved = dict(GaussianScorer().fit(plant(2000) + offset).arrays)
    rows = plant(400, seed=4)
    np.testing.assert_allclose(scored(moved, rows + offset)[0], scored(arrays, rows)[0], rtol=0.02)


@pytest.mark.parametrize("case", ["gap", "missing", "shift"])
def test_a_fresh_session_repeats_the_scores_from_its_look_back(arrays: dict[str, np.ndarray], case: str) -> None:
    scorer = GaussianScorer()
    back, hop = scorer.lookback_steps, scorer.hop_steps
    rows = plant((back + 400) // hop * hop, seed=6)
    rows[200:300] += 4
    if case == "gap":
        rows[300:-64] = np.nan
    elif case == "missing":
        rows[np.random.default_rng(0).random(rows.shape) < 0.3] = np.nan
    end = len(rows) - 1
    whole = run(scorer, arrays, rows, flush=False)[-1]
    start = (end + 1 - back) // hop * hop
    due = windows(scorer, rows, start, emit_from=whole.first_slot, flush=False)
    session = scorer.open(arrays)
    for window in due[:-1]:
        scorer.score([(session, Window(window.rows, window.end_slot, 0, 0))])
    np.testing.assert_allclose(scorer.score([(session, due[-1])])[0].raw, whole.raw, rtol=1e-4)


def test_a_fault_that_ends_in_silence_does_not_alarm_for_ever(arrays: dict[str, np.ndarray]) -> None:
    rows = plant(900, seed=7)
    normal, _ = scored(arrays, rows)
    rows[START : START + 10, 0] += 4
    rows[START + 10 :] = np.nan
    raw, _ = scored(arrays, rows)
    assert raw[START + 200 :].max() < normal.max()


def test_sparse_channels_are_fitted() -> None:
    rows = plant(1000)
    rows[np.arange(1000) % 10 != 0, 1] = np.nan
    assert np.isfinite(GaussianScorer().fit(rows).held_out).all()
