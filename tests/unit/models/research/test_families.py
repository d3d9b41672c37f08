"""Every family of diffusion scores meets the Scorer port; one map is checked against its obvious computation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.research.families import FAMILIES, Family, FamilyScorer

from stream_ad.ports import Scorer, Window
from tests.contracts import check_scorer as suite

# What the code of a family could break; the rest of the port is pointwise.py's.
CHECKS = [suite.check_missing, suite.check_batch_independence, suite.check_lookback, suite.check_no_look_ahead]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_port(check: Callable[[Scorer], None]) -> None:
    check(FamilyScorer(FAMILIES["imputation"], UniversalImputer.load()))


# Maps at low noise (score-norm, ddad-*) take a lone spike for signal: it is not what they find.
@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith(("score-norm", "ddad"))])
def test_anomaly_stands_out(name: str) -> None:
    rows = np.sin(np.arange(640) / 5)[:, None].astype(np.float32)
    rows += np.random.default_rng(0).normal(0, 0.05, rows.shape).astype(np.float32)
    rows[577] += 4.0
    scorer = FamilyScorer(FAMILIES[name], UniversalImputer.load())
    session = scorer.open(scorer.fit(rows[:384]).arrays)
    ends = range(511, 640, 32)
    windows = [Window(rows[end - 127 : end + 1], end, end - 63, end - 31) for end in ends]
    raw = np.concatenate([each.raw for each in scorer.score([(session, window) for window in windows])])
    at = np.arange(windows[0].emit_from, windows[-1].emit_to)
    inside = (at >= 575) & (at < 580)
    assert len(raw) == len(at)
    assert raw[inside].min() > np.quantile(raw[at < 540], 0.99)


def test_map_of_one_pass_is_the_imputers_squared_error() -> None:
    imputer = UniversalImputer.load()
    rows = np.random.default_rng(1).standard_normal((128, 2)).astype(np.float32)
    seen: list[np.ndarray] = []
    scorer = FamilyScorer(FAMILIES["imputation"], imputer)
    session = scorer.open(scorer.fit(np.tile(rows, (3, 1))).arrays)
    seen.append(session.errors(rows.astype(np.float64), 127).squares[0])
    expected = np.square(rows - imputer.impute(rows[None], stripe=1).mean[0])
    assert np.allclose(seen[0], expected, rtol=1e-3, atol=1e-4)


def test_a_signed_map_is_counted_from_its_lowest_fitted_values() -> None:
    family = Family("negative", 1, lambda view: view.truth - 7.0, stripe=None, signed=True)
    rows = np.random.default_rng(2).standard_normal((512, 1)).astype(np.float32)
    scorer = FamilyScorer(family, UniversalImputer.load())
    session = scorer.open(scorer.fit(rows).arrays)
    found = session.errors(rows[:128].astype(np.float64), 127).squares[0]
    assert found.min() == 0
    assert 0.9 < (found > 0).mean() < 1
