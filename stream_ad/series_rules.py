"""What settings say of the series of one topic."""

from __future__ import annotations

from dataclasses import dataclass

from stream_ad.episodes import EpisodeRule
from stream_ad.settings import Settings, duration_ns

__all__ = ["SeriesRules"]


@dataclass(frozen=True, slots=True)
class SeriesRules:
    """step_ns None = inferred; channels () = found in the first window."""

    step_ns: int | None
    channels: tuple[str, ...]
    max_channels: int
    lateness_steps: int
    revise_steps: int
    memory_steps: int
    false_alarms_per_s: float
    episodes: EpisodeRule

    @classmethod
    def of(cls, settings: Settings, topic: str) -> SeriesRules:
        subscription, detector, alerts = settings.subscription_of(topic), settings.detector, settings.alerts
        return cls(
            step_ns=duration_ns(subscription.step) if subscription.step else None,
            channels=subscription.channels,
            max_channels=detector.max_channels,
            lateness_steps=detector.allowed_lateness_steps,
            revise_steps=detector.revise_steps,
            memory_steps=detector.memory_steps,
            false_alarms_per_s=settings.false_alarms_per_s,
            episodes=EpisodeRule(alerts.enter, alerts.exit, alerts.min_length_steps, alerts.cooldown_steps),
        )
