"""The parts of a worker, each with its calls counted and timed: what works knows nothing of who watches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.notifications.dispatcher import NotifyEvents
from stream_ad.observability.metrics import Metrics
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import (
    AssignmentListener,
    Checkpoint,
    Fitted,
    ProfileStore,
    ScoredSlots,
    Scorer,
    Session,
    Sink,
    Source,
    StateStore,
    TopicReader,
    Window,
)
from stream_ad.records import Outputs, SourceRecord
from stream_ad.settings import Settings

__all__ = [
    "Instrumentation",
    "InstrumentedNotify",
    "InstrumentedPipeline",
    "InstrumentedScorer",
    "InstrumentedSink",
    "InstrumentedSource",
    "InstrumentedStates",
]

Float32 = NDArray[np.float32]


class Instrumentation:
    """Where every part reports: one call costs a few microseconds, so parts report by the batch."""

    def __init__(self, health: WorkerHealth, meters: Metrics) -> None:
        self.health = health
        self.meters = meters

    @contextmanager
    def call(self, stage: str, part: str = "", *, doing: str = "") -> Iterator[None]:
        """Times a call; with a part, its UnavailableError says that the part is away, its end that it is there."""
        clock, began_s = self.health.clock, self.health.clock.monotonic_s()
        try:
            with self.health.doing(doing or stage):
                yield
        except UnavailableError as error:
            if part:
                self.away(part, error)
            raise
        else:
            if part:
                self.health.found(part)
        finally:
            took_s = clock.monotonic_s() - began_s
            self.meters.observe("stage_seconds", took_s, stage=stage)
            if stage == "write":
                self.meters.observe("write_seconds", took_s, part=part)

    def away(self, part: str, error: UnavailableError) -> None:
        self.meters.count("unavailable", part=part)
        self.health.lost(part, error.message)


class InstrumentedSource:
    """ports.Source. A poll that brings records is a step, and so is a commit."""

    def __init__(self, source: Source, watch: Instrumentation) -> None:
        self.source = source
        self._watch = watch

    async def start(self, listener: AssignmentListener) -> None:
        await self.source.start(_Listener(listener, self._watch.health))

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        meters, clock = self._watch.meters, self._watch.health.clock
        began_s = clock.monotonic_s()
        records = await self.source.poll(timeout_s)
        meters.observe("stage_seconds", clock.monotonic_s() - began_s, stage="poll")
        if records:
            self._watch.health.step()
            meters.count("records", len(records))
            meters.observe("poll_records", len(records))
        return records

    async def subscribe(self, topics: Sequence[str]) -> None:
        if not isinstance(self.source, TopicReader):
            raise StreamAdError("this source reads the topics it was made with")
        await self.source.subscribe(topics)

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        with self._watch.call("commit", "broker", doing="committing offsets"):
            await self.source.commit(checkpoints)
        self._watch.health.step()

    async def owns_partitions(self) -> bool:
        with self._watch.call("hold", "broker", doing="asking the group whether the partitions are still ours"):
            return await self.source.owns_partitions()

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        with self._watch.call("load", "broker", doing=f"asking for the committed offset of {topic}/{partition}"):
            return await self.source.committed(topic, partition)

    async def stop(self) -> None:
        await self.source.stop()


class _Listener:
    """ports.AssignmentListener: partitions count as ours once their states are loaded."""

    def __init__(self, listener: AssignmentListener, health: WorkerHealth) -> None:
        self._listener = listener
        self._vitals = health

    async def assigned(self, topic: str, partition: int) -> int | None:
        offset = await self._listener.assigned(topic, partition)
        self._vitals.partitions |= {(topic, partition)}
        self._vitals.step()
        return offset

    async def revoked(self, partitions: Sequence[tuple[str, int]], *, lost: bool) -> None:
        await self._listener.revoked(partitions, lost=lost)
        self._vitals.partitions -= set(partitions)
        self._vitals.step()


class InstrumentedSink:
    """ports.Sink. `part` is the word for it in metrics and reasons; statuses alone, which idle workers tell too, are no
    step."""

    def __init__(self, sink: Sink, part: str, watch: Instrumentation) -> None:
        self._sink = sink
        self._part = part
        self._watch = watch

    def write(self, outputs: Outputs) -> None:
        with self._watch.call("write", self._part, doing=f"writing to {self._part}"):
            self._sink.write(outputs)
        if outputs.scores or outputs.alerts or outputs.dead_letters:
            self._watch.health.step()

    def close(self) -> None:
        self._sink.close()


class InstrumentedStates:
    """ports.StateStore."""

    def __init__(self, states: StateStore, watch: Instrumentation) -> None:
        self._states = states
        self._watch = watch

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        with self._watch.call("load", "states", doing=f"loading the states of {topic}/{partition}"):
            states = await self._states.load(topic, partition)
        self._watch.health.step()
        return states

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        with self._watch.call("state", "states", doing=f"saving the states of {topic}/{partition}"):
            await self._states.save(topic, partition, states)
        self._watch.health.step()

    async def stop(self) -> None:
        await self._states.stop()


class InstrumentedNotify(NotifyEvents):
    """What the notifier does. A receiver that is away is no reason for the worker to wait."""

    def __init__(self, watch: Instrumentation) -> None:
        self._watch = watch

    def sent(self, route: str, events: int) -> None:
        self._watch.meters.count("notified_alerts", events, route=route)

    def failed(self, route: str) -> None:
        self._watch.meters.count("notification_failures", route=route)

    def held_back(self, route: str, reason: str, events: int) -> None:
        self._watch.meters.count("notifications_held_back", events, route=route, reason=reason)

    def waiting(self, events: Mapping[str, int]) -> None:
        self._watch.health.to_notify = events


class InstrumentedScorer:
    """ports.Scorer. Each call is a step: a poll may ask for many of them."""

    def __init__(self, scorer: Scorer, watch: Instrumentation) -> None:
        self._scorer = scorer
        self._watch = watch
        self.name, self.version = scorer.name, scorer.version
        self.window_steps, self.hop_steps = scorer.window_steps, scorer.hop_steps
        self.delay_steps, self.lookback_steps = scorer.delay_steps, scorer.lookback_steps

    def fit(self, history: Float32) -> Fitted:
        with self._watch.call("fit", doing="fitting a profile"):
            fitted = self._scorer.fit(history)
        self._watch.health.step()
        return fitted

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> Session:
        return self._scorer.open(arrays)

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        with self._watch.call("score", doing=f"scoring {len(batch)} windows"):
            scored = self._scorer.score(batch)
        self._watch.health.step()
        return scored


class InstrumentedPipeline(Pipeline):
    """The pipeline, timed from outside; what it does is untouched."""

    def __init__(self, settings: Settings, scorer: Scorer, profiles: ProfileStore, watch: Instrumentation) -> None:
        super().__init__(settings, InstrumentedScorer(scorer, watch), profiles)
        self._watch = watch

    def process(self, records: Sequence[SourceRecord], now_s: float = 0.0) -> Outputs:
        before = self.observations
        with self._watch.call("process", doing=f"processing {len(records)} records"):
            outputs = super().process(records, now_s)
        self._watch.health.step()
        self._watch.meters.count("observations", self.observations - before)
        return outputs

    def flush(self, now_s: float | None = None) -> Outputs:
        with self._watch.call("flush", doing="telling what waits on silent series"):
            return super().flush(now_s)

    def checkpoint(self, topic: str, partition: int) -> tuple[dict[str, bytes], Checkpoint] | None:
        with self._watch.call("checkpoint", "models", doing=f"collecting the states of {topic}/{partition}"):
            return super().checkpoint(topic, partition)
