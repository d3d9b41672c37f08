"""A profile store and a sink in memory, for runs that leave nothing behind: backtest, Detector, tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_ad.ports import Profile
from stream_ad.records import Outputs

__all__ = ["CollectSink", "MemoryProfileStore"]


@dataclass(slots=True)
class MemoryProfileStore:
    """ports.ProfileStore in dictionaries.

    saved: (series, scorer, version) -> profile; promoted: (series, scorer) -> version.
    """

    saved: dict[tuple[str, str, str], Profile] = field(default_factory=dict)
    promoted: dict[tuple[str, str], str] = field(default_factory=dict)

    def save(self, profile: Profile, *, promote: bool) -> None:
        self.saved[profile.series, profile.scorer, profile.version] = profile
        if promote:
            self.promoted[profile.series, profile.scorer] = profile.version

    def load(self, series: str, scorer: str, version: str | None = None) -> Profile | None:
        return self.saved.get((series, scorer, version or self.promoted.get((series, scorer), "")))

    def series(self, scorer: str) -> list[str]:
        return sorted(series for series, name in self.promoted if name == scorer)


@dataclass(slots=True)
class CollectSink:
    """ports.Sink that keeps everything in `outputs`."""

    outputs: Outputs = field(default_factory=Outputs)

    def write(self, outputs: Outputs) -> None:
        self.outputs.extend(outputs)

    def close(self) -> None:
        """Keeps the outputs."""
