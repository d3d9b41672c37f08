"""Instrumentation: proxies that time the calls of a worker's ports and report them to metrics and health."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from stream_ad.errors import UnavailableError
from stream_ad.notifications.dispatcher import NotifyEvents
from stream_ad.observability.metrics import Metrics
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import AssignmentListener, Scorer, Sink, Source, StateStore
from stream_ad.records import Outputs, Partition, SourceRecord

__all__ = [
    "Instrumentation",
    "InstrumentedNotify",
    "instrument_pipeline",
    "instrument_scorer",
    "instrument_sink",
    "instrument_source",
    "instrument_states",
]

T = TypeVar("T")


class Instrumentation:
    """Reports calls. One report costs a few microseconds, so calls are reported by the batch."""

    def __init__(self, health: WorkerHealth, metrics: Metrics) -> None:
        self.health = health
        self.metrics = metrics

    @contextmanager
    def call(self, stage: str, dependency: str = "", *, doing: str = "", progress: bool = False) -> Iterator[None]:
        """Times a call. With a dependency, UnavailableError marks it as down and success as up. progress: success
        counts as progress of the worker."""
        health, began_s = self.health, self.health.clock.monotonic_s()
        try:
            with health.doing(doing or stage):
                yield
        except UnavailableError as error:
            if dependency:
                self.dependency_down(dependency, error)
            raise
        else:
            if dependency:
                health.dependency_up(dependency)
            if progress:
                health.record_progress()
        finally:
            took_s = health.clock.monotonic_s() - began_s
            self.metrics.observe("stage_seconds", took_s, stage=stage)
            if stage == "write":
                self.metrics.observe("write_seconds", took_s, part=dependency)

    def dependency_down(self, name: str, error: UnavailableError) -> None:
        self.metrics.count("unavailable", part=name)
        self.health.dependency_down(name, error.message)


@dataclass(frozen=True, slots=True)
class _Call:
    """How the calls of one method are reported, see `Instrumentation.call`.

    doing: the action in words, with the arguments in place of {}; a sequence appears as its length.
    """

    stage: str
    dependency: str
    doing: str
    progress: bool = True

    def report(self, method: Callable[..., Any], watch: Instrumentation) -> Callable[..., Any]:
        def call(args: Sequence[Any]) -> Any:
            doing = self.doing.format(*(len(arg) if isinstance(arg, list) else arg for arg in args))
            return watch.call(self.stage, self.dependency, doing=doing, progress=self.progress)

        async def report_async(*args: Any, **options: Any) -> Any:
            with call(args):
                return await method(*args, **options)

        def report(*args: Any, **options: Any) -> Any:
            with call(args):
                return method(*args, **options)

        return report_async if iscoroutinefunction(method) else report


_SOURCE = {
    "commit": _Call("commit", "broker", "committing offsets"),
    "owns_partitions": _Call("hold", "broker", "checking partition ownership", progress=False),
    "committed": _Call("load", "broker", "loading the committed offset of {}/{}", progress=False),
}
_STATES = {
    "load": _Call("load", "states", "loading the states of {}/{}"),
    "save": _Call("state", "states", "saving the states of {}/{}"),
}
_SCORER = {"fit": _Call("fit", "", "fitting a profile"), "score": _Call("score", "", "scoring {} windows")}
_PIPELINE = {
    "flush": _Call("flush", "", "emitting provisional scores of silent series", progress=False),
    "checkpoint": _Call("checkpoint", "models", "collecting the states of {}/{}", progress=False),
}


class _Proxy:
    """The given attributes in place of the target's; every other one is the target's own."""

    def __init__(self, target: object, attributes: Mapping[str, Any]) -> None:
        self._target = target
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def _instrument(port: T, calls: Mapping[str, _Call], watch: Instrumentation, **attributes: Any) -> T:
    reported = {name: call.report(getattr(port, name), watch) for name, call in calls.items()}
    return cast(T, _Proxy(port, reported | attributes))


def instrument_source(source: Source, watch: Instrumentation) -> Source:
    """A commit and a poll that returns records are progress. A partition counts as assigned when the listener has
    loaded its states."""
    health, metrics = watch.health, watch.metrics

    async def start(listener: AssignmentListener) -> None:
        async def assigned(topic: str, partition: int) -> int | None:
            offset = await listener.assigned(topic, partition)
            health.partitions |= {(topic, partition)}
            health.record_progress()
            return offset

        async def revoked(partitions: Sequence[Partition], *, lost: bool) -> None:
            await listener.revoked(partitions, lost=lost)
            health.partitions -= set(partitions)
            health.record_progress()

        await source.start(_instrument(listener, {}, watch, assigned=assigned, revoked=revoked))

    async def poll(timeout_s: float) -> Sequence[SourceRecord] | None:
        began_s = health.clock.monotonic_s()
        records = await source.poll(timeout_s)
        metrics.observe("stage_seconds", health.clock.monotonic_s() - began_s, stage="poll")
        if records:
            health.record_progress()
            metrics.count("records", len(records))
            metrics.observe("poll_records", len(records))
        return records

    # from Python 3.12 on isinstance(proxy, TopicReader) looks for an attribute of the instance
    optional = {name: getattr(source, name) for name in ("subscribe",) if hasattr(source, name)}
    return _instrument(source, _SOURCE, watch, start=start, poll=poll, **optional)


def instrument_states(states: StateStore, watch: Instrumentation) -> StateStore:
    return _instrument(states, _STATES, watch)


def instrument_sink(sink: Sink, name: str, watch: Instrumentation) -> Sink:
    """name: of the dependency in metrics and reasons. Statuses alone, which idle workers write too, are no progress."""

    def write(outputs: Outputs) -> None:
        progress = bool(outputs.scores or outputs.alerts or outputs.dead_letters)
        with watch.call("write", name, doing=f"writing to {name}", progress=progress):
            sink.write(outputs)

    return _instrument(sink, {}, watch, write=write)


def instrument_scorer(scorer: Scorer, watch: Instrumentation) -> Scorer:
    """Each call is progress: one poll may cause many of them. Constants are read as fast as without the proxy."""
    constants = ("name", "version", "window_steps", "hop_steps", "delay_steps", "lookback_steps", "open")
    return _instrument(scorer, _SCORER, watch, **{name: getattr(scorer, name) for name in constants})


def instrument_pipeline(pipeline: Pipeline, watch: Instrumentation) -> Pipeline:
    def process(records: Sequence[SourceRecord], now_s: float = 0.0) -> Outputs:
        before = pipeline.observations
        with watch.call("process", doing=f"processing {len(records)} records", progress=True):
            outputs = pipeline.process(records, now_s)
        watch.metrics.count("observations", pipeline.observations - before)
        return outputs

    return _instrument(pipeline, _PIPELINE, watch, process=process)


class InstrumentedNotify(NotifyEvents):
    """Counts notifications. A receiver that is down does not make the worker unready."""

    def __init__(self, watch: Instrumentation) -> None:
        self._watch = watch

    def sent(self, route: str, events: int) -> None:
        self._watch.metrics.count("notified_alerts", events, route=route)

    def failed(self, route: str) -> None:
        self._watch.metrics.count("notification_failures", route=route)

    def held_back(self, route: str, reason: str, events: int) -> None:
        self._watch.metrics.count("notifications_held_back", events, route=route, reason=reason)

    def waiting(self, events: Mapping[str, int]) -> None:
        self._watch.health.notifications_waiting = events
