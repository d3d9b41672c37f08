"""Proxies of a worker's ports: they keep the port's attributes and report its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from stream_ad_connectors.host.clock import SystemClock

from stream_ad.errors import UnavailableError
from stream_ad.observability.instrumented import (
    Instrumentation,
    instrument_scorer,
    instrument_source,
    instrument_states,
)
from stream_ad.observability.metrics import Metrics
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.ports import Scorer, Source, TopicReader
from tests.support.fakes import LevelScorer


@pytest.fixture
def watch() -> Instrumentation:
    health = WorkerHealth(SystemClock())
    return Instrumentation(health, Metrics(health))


class FixedSource:
    async def start(self, listener: Any) -> None: ...
    async def poll(self, timeout_s: float) -> None: ...
    async def commit(self, checkpoints: Any) -> None: ...
    async def owns_partitions(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> None: ...
    async def stop(self) -> None: ...


class TopicSource(FixedSource):
    async def subscribe(self, topics: Sequence[str]) -> None: ...


def test_a_source_is_a_topic_reader_only_if_its_target_is(watch: Instrumentation) -> None:
    assert isinstance(instrument_source(TopicSource(), watch), TopicReader)
    fixed = instrument_source(FixedSource(), watch)
    assert not isinstance(fixed, TopicReader)
    assert isinstance(fixed, Source)


def test_a_scorer_keeps_its_constants(watch: Instrumentation) -> None:
    target: Scorer = LevelScorer()  # type: ignore[assignment]
    scorer = instrument_scorer(target, watch)
    assert (scorer.name, scorer.version, scorer.hop_steps) == (target.name, target.version, target.hop_steps)
    scorer.score([])
    assert watch.health.progress == 1


class States:
    """An action is registered while a call runs; the call fails until `up`."""

    up = False

    def __init__(self, health: WorkerHealth) -> None:
        self.health = health

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        assert self.health.oldest_action().what == "loading the states of t/3"  # type: ignore[union-attr]
        if not self.up:
            raise UnavailableError("no answer")
        return {"s": b"x"}

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None: ...
    async def stop(self) -> None: ...


async def test_calls_report_actions_outages_and_progress(watch: Instrumentation) -> None:
    target = States(watch.health)
    states = instrument_states(target, watch)
    with pytest.raises(UnavailableError):
        await states.load("t", 3)
    assert (list(watch.health.down), watch.health.progress, dict(watch.health.actions)) == (["states"], 0, {})
    target.up = True
    assert await states.load("t", 3) == {"s": b"x"}
    assert (list(watch.health.down), watch.health.progress) == ([], 1)
