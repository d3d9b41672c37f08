"""Builds the scorer of `detector.scorer`; trains the group models of `stream-ad train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError
from stream_ad.ports import Scorer
from stream_ad.settings import Settings
from stream_ad.wiring.plugins import load_plugin

__all__ = ["FAMILIES", "SCORERS", "build_scorer", "group_path", "save_group_model"]


def _universal(settings: Settings) -> Scorer:
    from stream_ad_models.imputer.imputer import UniversalImputer
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    steps = settings.detector
    return ImputationScorer(UniversalImputer.load(), hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)


def _group(settings: Settings) -> Scorer:
    from stream_ad_models.imputer.imputer import GroupImputer
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    path = group_path(settings)
    if not path.exists():
        raise ConfigError(f"group model {path} does not exist", hint="train it: stream-ad train FILE... --group NAME")
    steps = settings.detector
    return ImputationScorer(GroupImputer.load(path), hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)


def _simple(module: str, name: str, settings: Settings) -> Scorer:
    """A scorer whose only parameters are its steps; imported when chosen, since some are heavy or optional."""
    make, steps = getattr(import_module(f"stream_ad_models.{module}"), name), settings.detector
    scorer: Scorer = make(hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)
    return scorer


def _family(name: str, settings: Settings) -> Scorer:
    from stream_ad_models.research.families import family_scorer

    return family_scorer(name, hop_steps=settings.detector.hop_steps, delay_steps=settings.detector.delay_steps)


def group_path(settings: Settings) -> Path:
    """Path of the weights of detector.group, in the directory of the profiles, on this machine."""
    return Path(settings.models.url) / "groups" / f"{settings.detector.group}.safetensors"


FAMILIES = (
    "imputation", "imputation-16", "imputation-scaled", "density", "loss-sum", "loss-sum-masked",
    "score-norm", "score-norm-masked", "ddad-signal", "ddad-features",
)  # fmt: skip  # of diffusion scores: stream_ad_models.research.families
SCORERS: Mapping[str, Callable[[Settings], Scorer]] = {
    "universal": _universal,
    "group": _group,
    "gaussian": partial(_simple, "scorer.gaussian_scorer", "GaussianScorer"),
    "memory": partial(_simple, "scorer.imputation_scorer", "MemoryScorer"),
    "control": partial(_simple, "baselines.control", "ControlScorer"),
    "ar": partial(_simple, "baselines.ar", "ArScorer"),
    "seasonal": partial(_simple, "baselines.seasonal", "SeasonalScorer"),
    "pca": partial(_simple, "baselines.subsequences", "PcaScorer"),
    "kmeans": partial(_simple, "baselines.subsequences", "KMeansScorer"),
    "matrixprofile": partial(_simple, "baselines.matrixprofile", "MatrixProfileScorer"),
    "iforest": partial(_simple, "baselines.trees", "IsolationForestScorer"),
    "hst": partial(_simple, "baselines.trees", "HalfSpaceScorer"),
    **{name: partial(_family, name) for name in FAMILIES},
}


def build_scorer(settings: Settings) -> Scorer:
    """The scorer that detector.scorer names: a built-in one, else a plugin."""
    import torch

    name = settings.detector.scorer
    torch.set_num_threads(settings.detector.threads)
    if name in SCORERS:
        return SCORERS[name](settings)
    scorer = load_plugin("scorers", name, settings, key="detector.scorer", own=SCORERS)
    if not isinstance(scorer, Scorer) or scorer.name != name:
        raise ConfigError(f"detector.scorer: expected a Scorer named {name!r}, found {scorer!r}")
    return scorer


def save_group_model(
    histories: Sequence[NDArray[np.float32]],
    settings: Settings,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> Path:
    """Trains detector.group on the histories (float32 [row, channel] each) of similar series; returns its path."""
    from stream_ad_models.pretraining.group import train_group
    from stream_ad_models.scorer.normaliser import Normaliser

    normalised = [Normaliser.fit(history).apply(history) for history in histories]
    imputer = train_group(normalised, steps=steps, seed=seed, progress=progress)
    path = group_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    return imputer.save(path.parent, path.stem)
