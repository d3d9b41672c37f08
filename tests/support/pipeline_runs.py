"""Logs, settings and profiles for a `Pipeline` with the fake scorer, and what its outputs amount to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Fitted, Profile
from stream_ad.records import AlertState, Outputs, SourcePosition, SourceRecord
from stream_ad.settings import AlertSettings, DetectorSettings, Settings, Subscription
from tests.support.fakes import LevelScorer, MemoryProfiles

STEP_NS = 1_000_000_000
START_NS = 1_700_000_000 * STEP_NS
SCORER = LevelScorer()


def make_settings(lateness: int = 1, memory: int = 256, revise: int = 64, stagger: bool = False) -> Settings:
    return Settings(
        subscription=(Subscription(topic="t", step="1s", time_unit="ns"),),
        detector=DetectorSettings(
            allowed_lateness_steps=lateness, memory_steps=memory, revise_steps=revise, stagger=stagger
        ),
        alerts=AlertSettings(cooldown_steps=6),
    )


def fitted_profiles(channels: Sequence[str] = ("a", "b"), series: str = "s") -> MemoryProfiles:
    store = MemoryProfiles()
    fitted = Fitted({"scale": np.ones(len(channels))}, np.abs(np.sin(np.arange(64.0))))
    store.save(
        Profile(series, tuple(channels), STEP_NS, "level", "1", "fit-1", 64, 256, None, fitted),
        promote=True,
    )
    return store


def record(
    offset: int, slot: int, values: dict[str, float | None], series: str = "s", partition: int = 0
) -> SourceRecord:
    time_ns = START_NS + slot * STEP_NS
    body = {"series": series, "time": time_ns, "values": values}
    return SourceRecord(SourcePosition("t", partition, offset), time_ns, None, json.dumps(body).encode())


def signal(n: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2)).astype(np.float32)
    values[n // 2 : n // 2 + 5] += 9
    return values


def log_of(values: NDArray[np.float32], slots: Iterable[int] | None = None, series: str = "s") -> list[SourceRecord]:
    chosen = range(len(values)) if slots is None else slots
    rows = zip(chosen, values, strict=True)
    return [record(i, s, {"a": float(r[0]), "b": float(r[1])}, series) for i, (s, r) in enumerate(rows)]


def contents(outs: Iterable[Outputs]) -> dict[tuple[str, int], tuple[float, int]]:
    """(series, time) -> (score, revision), as in a store that keeps the newest revision."""
    held: dict[tuple[str, int], tuple[float, int]] = {}
    for out in outs:
        for batch in out.scores:
            for time_ns, score, revision in zip(batch.event_time_ns, batch.score, batch.revision, strict=True):
                held[batch.series, int(time_ns)] = (float(score), int(revision))
    return held


def alerts(outs: Iterable[Outputs]) -> list[tuple[str, AlertState]]:
    return [(alert.id, alert.state) for out in outs for alert in out.alerts]


def run(log: Sequence[SourceRecord], cuts: Sequence[int], conf: Settings, store: MemoryProfiles) -> list[Outputs]:
    pipeline = Pipeline(conf, SCORER, store)
    bounds = [0, *sorted(cuts), len(log)]
    outs = [pipeline.process(log[a:b]) for a, b in pairwise(bounds)]
    return [*outs, pipeline.flush()]
