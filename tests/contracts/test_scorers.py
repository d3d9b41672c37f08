"""Every scorer that `detector.scorer` can name meets the Scorer port."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from stream_ad_models.baselines.ar import ArScorer
from stream_ad_models.baselines.control import ControlScorer
from stream_ad_models.baselines.matrixprofile import MatrixProfileScorer
from stream_ad_models.baselines.seasonal import SeasonalScorer
from stream_ad_models.baselines.subsequences import KMeansScorer, PcaScorer
from stream_ad_models.baselines.trees import HalfSpaceScorer, IsolationForestScorer
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS
from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig
from stream_ad_models.imputer.imputer import GroupImputer, UniversalImputer
from stream_ad_models.imputer.intervals import NEUTRAL_INTERVALS
from stream_ad_models.memory.features import LEVELS, SHAPE
from stream_ad_models.research.families import FAMILIES, FamilyScorer
from stream_ad_models.scorer.gaussian_scorer import GaussianScorer
from stream_ad_models.scorer.imputation_scorer import ImputationScorer, MemoryScorer

from stream_ad.errors import ConfigError, DataError, ModelError
from stream_ad.ports import Scorer, Window
from stream_ad.wiring.scorers import FAMILIES as SELECTABLE_FAMILIES
from stream_ad.wiring.scorers import SCORERS
from tests.contracts import check_scorer as suite


def _group() -> ImputationScorer:
    """An untrained group model: the port asks nothing of its accuracy."""
    torch.manual_seed(0)
    return ImputationScorer(GroupImputer(Denoiser(DenoiserConfig(channels=3)), NEUTRAL_INTERVALS))


def _family(name: str) -> Callable[[], Scorer]:
    return lambda: FamilyScorer(FAMILIES[name], UniversalImputer.load(), hop_steps=HOP_STEPS, delay_steps=DELAY_STEPS)


MAKERS: dict[str, Callable[[], Scorer]] = {
    "universal": lambda: ImputationScorer(UniversalImputer.load()),
    "universal, hop 64": lambda: ImputationScorer(UniversalImputer.load(), hop_steps=64, delay_steps=64),
    "group": _group,
    "gaussian": GaussianScorer,
    "gaussian, at once": lambda: GaussianScorer(delay_steps=0),
    "memory": MemoryScorer,
    "ar": ArScorer,
    "seasonal": SeasonalScorer,
    "control": ControlScorer,
    "pca": PcaScorer,
    "kmeans": KMeansScorer,
    "matrixprofile": MatrixProfileScorer,
    "iforest": IsolationForestScorer,
    "hst": HalfSpaceScorer,
    **{name: _family(name) for name in SELECTABLE_FAMILIES},
}
# Checks of detection power that a family fails by what it measures; all meet the rest of the port.
WEAK = {
    suite.check_anomaly_stands_out: (
        "imputation-16", "density", "loss-sum", "score-norm", "ddad-signal", "ddad-features",
    ),
    suite.check_constant_channels: ("ddad-features",),
    suite.check_only_constants: ("density", "ddad-features"),
}  # fmt: skip
EVERY = [
    suite.check_port,
    suite.check_missing,
    suite.check_holes_in_history,
    suite.check_constant_channels,
    suite.check_usual_binary_steps_hardly_count,
    suite.check_anomaly_stands_out,
    suite.check_determinism,
    suite.check_batch_independence,
    suite.check_lookback,
    suite.check_no_look_ahead,
]
ANY_WIDTH = [name for name in MAKERS if name != "group"]


def test_every_selectable_scorer_is_here() -> None:
    assert {name.partition(",")[0] for name in MAKERS} == set(SCORERS)
    # Its random draws depend on the place of a window in the batch, so it is not batch independent.
    assert set(FAMILIES) - set(SELECTABLE_FAMILIES) == {"imputation-sampled"}


@pytest.mark.parametrize("check", EVERY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", MAKERS)
def test_scorer(name: str, check: Callable[[Scorer], None]) -> None:
    if name == "control" and check is suite.check_lookback:
        pytest.skip("keeps a running level, by design")
    if name == "group" and check is suite.check_usual_binary_steps_hardly_count:
        pytest.skip("binary channels are input of the group model, though not scored")
    if name in WEAK.get(check, ()):
        pytest.skip("a family that hardly finds a long shift of the level")
    scorer = MAKERS[name]()
    assert scorer.name == name.partition(",")[0]
    check(scorer)


@pytest.mark.parametrize("name", ANY_WIDTH)
def test_constants_alone(name: str) -> None:
    if name in WEAK[suite.check_only_constants]:
        pytest.skip("a family that hardly finds a shift of a constant")
    suite.check_only_constants(MAKERS[name]())


@pytest.mark.parametrize(("n", "channels"), [(128, 1), (512, 3), (300, 1), (137, 200)])
@pytest.mark.parametrize("name", ANY_WIDTH)
def test_shapes(name: str, n: int, channels: int) -> None:
    suite.check_shapes(MAKERS[name](), suite.history(n, channels))


@pytest.mark.parametrize("name", ANY_WIDTH)
def test_refusals(name: str) -> None:
    scorer = MAKERS[name]()
    with pytest.raises(DataError, match="expected at least 128 rows"):
        scorer.fit(suite.history(100))
    with pytest.raises(DataError, match="found none"):
        scorer.fit(np.full((200, 2), np.nan, np.float32))
    session = scorer.open(scorer.fit(suite.history()).arrays)
    with pytest.raises(DataError, match="expected shape"):
        scorer.score([(session, Window(np.zeros((128, 2), np.float32), 127, 0, 0))])


def test_options_are_checked() -> None:
    for options in (
        {"delay_steps": 20},
        {"delay_steps": 128},
        {"context_steps": 48},
        {"hop_steps": 24},
        {"hop_steps": 0},
        {"feature_sets": (dataclasses.replace(LEVELS, lengths=(16, 48)),)},
    ):
        with pytest.raises(ConfigError, match="expected"):
            ImputationScorer(UniversalImputer.load(), **options)


def test_a_foreign_profile_is_refused() -> None:
    arrays = MemoryScorer().fit(suite.history()).arrays
    with pytest.raises(ModelError, match="expected arrays of scorer universal"):
        ImputationScorer(UniversalImputer.load()).open(arrays)


def test_other_options_meet_the_port() -> None:
    scorer = ImputationScorer(
        UniversalImputer.load(),
        hop_steps=32,
        delay_steps=0,
        context_steps=0,
        stripes=(1, 16),
        feature_sets=(LEVELS, SHAPE),
    )
    suite.check_shapes(scorer, suite.history())
    suite.check_lookback(scorer)
    suite.check_batch_independence(scorer)
