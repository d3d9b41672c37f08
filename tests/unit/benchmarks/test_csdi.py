"""The CSDI network that cost is measured against: its shape is the published one, and it is a scorer like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.speed import csdi
from stream_ad.errors import DataError
from stream_ad.ports import Scorer, Window


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> csdi.CsdiScorer:
    monkeypatch.setattr(csdi, "STEPS", 3)
    return csdi.CsdiScorer(seed=1)


def _rows(channels: int, rows: int = 200) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, channels)).astype(np.float32)


def test_size_and_passes_are_the_published_ones() -> None:
    network = csdi.CsdiNetwork(38)
    assert 380_000 < sum(parameter.numel() for parameter in network.parameters()) < 450_000
    assert (len(network.layers), csdi.WIDTH, csdi.HEADS) == (4, 64, 8)
    assert csdi.passes_per_window() == 100


def test_every_token_sees_every_other() -> None:
    network = csdi.CsdiNetwork(3).eval()
    mask, noisy, step = torch.ones(1, 3, 100), torch.zeros(1, 3, 100), torch.tensor([7])
    seen = torch.randn(1, 3, 100, generator=torch.Generator().manual_seed(0))
    moved = seen.clone()
    moved[0, 2, 90] += 5
    with torch.no_grad():
        before, after = network(noisy, seen, mask, step), network(noisy, moved, mask, step)
    assert before.shape == (1, 3, 100)
    assert (before != after).all()


def test_scores_the_middle_of_a_window(quick: csdi.CsdiScorer) -> None:
    assert isinstance(quick, Scorer)
    rows = _rows(2)
    fitted = quick.fit(rows)
    assert fitted.held_out.shape == (50,)
    [scored] = quick.score([(quick.open(fitted.arrays), Window(rows[50:150], 149, 75, 125))])
    assert (scored.first_slot, scored.raw.shape, scored.expected.shape) == (75, (50,), (50, 2))
    assert (scored.raw > 0).all()
    assert np.allclose(scored.attribution.sum(axis=1), 1)


def test_a_reading_does_not_reach_its_own_imputation(quick: csdi.CsdiScorer) -> None:
    rows = _rows(2)
    session = quick.open(quick.fit(rows).arrays)
    windows = np.stack([rows[:100], rows[:100]])
    windows[1, 60, 0] += 50
    errors, imputed = quick.score_together(session, windows[:1])
    errors_moved, imputed_moved = quick.score_together(session, windows[1:])
    assert np.allclose(imputed[0, 35], imputed_moved[0, 35], atol=1e-3)
    assert errors_moved[0, 35, 0] > errors[0, 35, 0] + 100


def test_short_history_is_refused(quick: csdi.CsdiScorer) -> None:
    with pytest.raises(DataError, match="expected at least 100 rows"):
        quick.fit(_rows(2, 60))
