"""Which scorer: detector.scorer to an object, and the group models that `train` makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError
from stream_ad.ports import (
    Scorer,
)
from stream_ad.settings import Settings
from stream_ad.wiring.plugins import load_plugin

__all__ = ["SCORERS", "build_scorer", "group_path", "save_group_model"]


def _universal(settings: Settings) -> Scorer:
    from stream_ad_models.imputer.imputer import UniversalImputer
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    steps = settings.detector
    return ImputationScorer(UniversalImputer.load(), hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)


def _group(settings: Settings) -> Scorer:
    from stream_ad_models.imputer.group import GroupImputer
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    path = group_path(settings)
    if not path.exists():
        raise ConfigError(f"group model {path} does not exist", hint="train it: stream-ad train FILE... --group NAME")
    steps = settings.detector
    return ImputationScorer(GroupImputer.load(path), hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)


def _lone(module: str, name: str, settings: Settings) -> Scorer:
    """A scorer that asks for nothing but its steps; imported when it is chosen, as some are heavy or optional."""
    make, steps = getattr(import_module(f"stream_ad_models.{module}"), name), settings.detector
    scorer: Scorer = make(hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)
    return scorer


def group_path(settings: Settings) -> Path:
    """Where `stream-ad train` puts the weights of detector.group: beside the profiles, on this machine."""
    return Path(settings.models.url) / "groups" / f"{settings.detector.group}.safetensors"


SCORERS: Mapping[str, Callable[[Settings], Scorer]] = {
    "universal": _universal,
    "group": _group,
    "memory": partial(_lone, "scorer.imputation_scorer", "MemoryScorer"),
    "control": partial(_lone, "baselines.control", "ControlScorer"),
    "ar": partial(_lone, "baselines.ar", "ArScorer"),
    "seasonal": partial(_lone, "baselines.seasonal", "SeasonalScorer"),
    "pca": partial(_lone, "baselines.pca", "PcaScorer"),
    "kmeans": partial(_lone, "baselines.kmeans", "KMeansScorer"),
    "matrixprofile": partial(_lone, "baselines.matrixprofile", "MatrixProfileScorer"),
    "iforest": partial(_lone, "baselines.iforest", "IsolationForestScorer"),
    "hst": partial(_lone, "baselines.hst", "HalfSpaceScorer"),
}


def build_scorer(settings: Settings) -> Scorer:
    """The scorer that detector.scorer names: one of ours, else another package's."""
    import torch

    name = settings.detector.scorer
    torch.set_num_threads(settings.detector.threads)
    if name in SCORERS:
        return SCORERS[name](settings)
    scorer = load_plugin("scorers", name, settings, key="detector.scorer", own=SCORERS)
    if not isinstance(scorer, Scorer) or scorer.name != name:
        raise ConfigError(f"detector.scorer: expected a Scorer of the name {name!r}, found {scorer!r}")
    return scorer


def save_group_model(
    histories: Sequence[NDArray[np.float32]],
    settings: Settings,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> Path:
    """Trains detector.group on histories (float32 [row, channel] each) of alike series; returns its path."""
    from stream_ad_models.pretraining.group import train_group
    from stream_ad_models.scorer.normaliser import Normaliser

    normalised = [Normaliser.fit(history).apply(history) for history in histories]
    imputer = train_group(normalised, steps=steps, seed=seed, progress=progress)
    path = group_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    return imputer.save(path.parent, path.stem)
