"""The settings that apply to the series of one topic."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from stream_ad.detection.episodes import EpisodeRule
from stream_ad.durations import duration_ns
from stream_ad.ports import Scorer
from stream_ad.settings import Settings
from stream_ad.windowing.config import WindowingConfig

__all__ = ["SeriesConfig"]


@dataclass(frozen=True, slots=True)
class SeriesConfig:
    """step_ns None = inferred; channels () = found in the first window. stagger: see `phase_steps`."""

    step_ns: int | None
    channels: tuple[str, ...]
    max_channels: int
    windowing: WindowingConfig
    stagger: bool
    false_alarms_per_s: float
    episodes: EpisodeRule

    def phase_steps(self, series: str) -> int:
        """Empty slots before a series' first reading: staggered, since windows end at multiples of the hop (ADR 19)."""
        return crc32(series.encode("utf-8", "surrogatepass")) % self.windowing.hop if self.stagger else 0

    @classmethod
    def of(cls, settings: Settings, topic: str, scorer: Scorer) -> SeriesConfig:
        subscription, detector, alerts = settings.subscription_of(topic), settings.detector, settings.alerts
        return cls(
            step_ns=duration_ns(subscription.step) if subscription.step else None,
            channels=subscription.channels,
            max_channels=detector.max_channels,
            windowing=WindowingConfig(
                window=scorer.window_steps,
                hop=scorer.hop_steps,
                delay=scorer.delay_steps,
                lookback=scorer.lookback_steps,
                lateness=detector.allowed_lateness_steps,
                revise=detector.revise_steps,
                memory=detector.memory_steps,
            ),
            stagger=detector.stagger,
            false_alarms_per_s=settings.false_alarms_per_s,
            episodes=EpisodeRule(alerts.enter, alerts.exit, alerts.min_length_steps, alerts.cooldown_steps),
        )
