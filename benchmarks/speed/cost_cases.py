"""What `cost` measures: each configuration, and how its scorer is made."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.speed.csdi import CsdiScorer
from stream_ad.ports import Scorer
from stream_ad.settings import Settings
from stream_ad.wiring import SCORERS

CHANNELS, MAIN_CHANNELS = (1, 5, 38, 200), 38
HOPS = (4, 8)  # besides the default, whose delay they divide
CSDI_WINDOWS = {1: 16, 5: 4, 38: 1}  # at once; a window of 38 channels takes seconds, one of 200 a minute


@dataclass(frozen=True)
class Configuration:
    """hop None: the scorer's own. series: sessions in one batch. workers: processes side by side."""

    scorer: str
    channels: int = MAIN_CHANNELS
    hop: int | None = None
    series: int = 1
    threads: int = 1
    workers: int = 1

    @property
    def key(self) -> str:
        parts = [self.scorer, f"{self.channels} channels", f"{self.threads} threads"]
        parts += [f"hop {self.hop}"] if self.hop else []
        parts += [f"{self.series} series"] if self.series > 1 else []
        parts += [f"{self.workers} workers"] if self.workers > 1 else []
        return ", ".join(parts)


def configurations() -> list[Configuration]:
    ours = ("universal", "group")
    out = [Configuration(name, channels) for name in ours for channels in CHANNELS]
    out += [Configuration(name, threads=2) for name in ours]
    out += [Configuration(name, workers=2) for name in ours]
    out += [Configuration("universal", hop=hop) for hop in HOPS]
    out += [Configuration("universal", series=series) for series in (16, 128)]
    out += [Configuration("universal", 1, series=128)]
    out += [Configuration(name) for name in SCORERS if name not in ours]
    out += [Configuration("csdi", channels) for channels in CSDI_WINDOWS]
    return [*out, Configuration("csdi", threads=2), Configuration("csdi", workers=2)]


def make(configuration: Configuration, seed: int) -> Scorer:
    """The scorer with its defaults. An untrained group model costs what a trained one does."""
    from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig
    from stream_ad_models.imputer.imputer import GroupImputer, UniversalImputer
    from stream_ad_models.imputer.intervals import NEUTRAL_INTERVALS
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    name, hop = configuration.scorer, configuration.hop
    if name == "csdi":
        return CsdiScorer(seed)
    if name == "group":
        return ImputationScorer(
            GroupImputer(Denoiser(DenoiserConfig(channels=configuration.channels)), NEUTRAL_INTERVALS)
        )
    if hop is None:
        return SCORERS[name](Settings())
    return ImputationScorer(UniversalImputer.load(), hop_steps=hop)
