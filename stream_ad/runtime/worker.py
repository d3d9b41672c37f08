"""The worker: builds the job (consumer loop, monitor, notifications) from the settings and runs it until a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from stream_ad.errors import ConfigError
from stream_ad.notifications.dispatcher import NotificationDispatcher, Route
from stream_ad.notifications.outbox import Outbox
from stream_ad.observability.instrumented import (
    InstrumentedNotify,
    instrument_sink,
    instrument_source,
    instrument_states,
)
from stream_ad.observability.monitor import WorkerMonitor
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Sink, Source
from stream_ad.runtime.consumer_loop import ConsumerLoop
from stream_ad.runtime.faust_app import run_in_faust
from stream_ad.runtime.topic_watcher import watch_topics
from stream_ad.serde.alerts import alert_from_json
from stream_ad.settings import Settings
from stream_ad.wiring import (
    build_scorer,
    embedded,
    open_alert_source,
    open_clock,
    open_notifier,
    open_profiles,
    open_sinks,
    open_source,
    open_store,
    open_subscriptions,
    prepare,
    with_machine_topic,
)
from stream_ad.wiring.subscriptions import SubscriptionResolver

__all__ = ["run_worker"]


def run_worker(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT; every output is durable when it returns.

    Raises the StreamAdError that ended it. A missing broker, store or topic raises before anything is read.
    """
    own_source = settings.plugins.source is not None
    if embedded(settings) and not own_source:
        settings = with_machine_topic(settings)
    monitor = WorkerMonitor(settings, open_clock())
    fixed_topics = embedded(settings) or own_source
    resolver = None if fixed_topics else SubscriptionResolver(settings, open_subscriptions(settings))
    try:
        settings = settings if resolver is None else _resolved(resolver)
        prepare(settings)
        build = _builder(settings, monitor, resolver)
        if fixed_topics:
            asyncio.run(_run_alone(build))
        else:
            run_in_faust(settings, build)
    finally:
        monitor.close()
        if resolver is not None:
            resolver.close()


def _resolved(resolver: SubscriptionResolver) -> Settings:
    """ConfigError when there is no subscription at all; a pattern without a matching topic yet is one."""
    now = resolver.resolve()
    if not now.subscription and not resolver.topics_may_appear:
        raise ConfigError(
            "kafka.bootstrap is set but there is no [[subscription]]",
            hint="add one with its topic, or `stream-ad subscribe TOPIC`",
        )
    return now


@dataclass(slots=True)
class _Job:
    """The consumer loop, its monitor, topic watcher and notification dispatcher, on one event loop."""

    consumer: ConsumerLoop
    source: Source
    pipeline: Pipeline
    monitor: WorkerMonitor
    dispatcher: NotificationDispatcher | None
    topic_watcher: Callable[[], Coroutine[Any, Any, None]] | None

    async def run(self) -> None:
        """Until the consumer loop ends. When another task fails, it stops the consumer loop and raises the error."""
        consuming = asyncio.create_task(self.consumer.run())
        background = {asyncio.create_task(self.monitor.run(self.source, self.pipeline))}
        if self.topic_watcher is not None:
            background.add(asyncio.create_task(self.topic_watcher()))
        notifying = None if self.dispatcher is None else asyncio.create_task(self.dispatcher.run())
        others = background if notifying is None else {*background, notifying}
        try:
            await asyncio.wait({consuming, *others}, return_when=asyncio.FIRST_COMPLETED)
            if not consuming.done():
                self.consumer.stop()
            await consuming
        finally:
            for task in background:
                task.cancel()
            if self.dispatcher is not None:
                self.dispatcher.stop()
            await asyncio.wait(others)
        for task in others:
            if not task.cancelled():
                task.result()

    def stop(self) -> None:
        self.consumer.stop()

    def close(self) -> None:
        self.consumer.close()


def _builder(settings: Settings, monitor: WorkerMonitor, resolver: SubscriptionResolver | None) -> Callable[[], _Job]:
    """A function that builds the job inside the event loop that runs it; the slow parts are built here."""
    pipeline = monitor.pipeline(settings, build_scorer(settings), open_profiles(settings))
    pipeline.subscribe(settings.subscription)  # an unreadable schema file raises before anything is read
    store, watch = open_store(settings), monitor.watch
    notifiers = [(route, open_notifier(settings, route)) for route in settings.notify.routes]

    def build() -> _Job:
        source, states = open_source(settings)
        routes = [Route(Outbox(route), notifier) for route, notifier in notifiers]
        dispatcher, alert_sinks = _notifications(settings, routes, monitor) if routes else (None, {})
        sinks = open_sinks(settings, store) | alert_sinks
        consumer = ConsumerLoop(
            instrument_source(source, watch),
            pipeline,
            [instrument_sink(sink, name, watch) for name, sink in sinks.items()],
            None if states is None else instrument_states(states, watch),
            open_clock(),
            on_outputs=monitor.metrics.delivered,
        )
        watcher = None if resolver is None else partial(_watch_topics, resolver, settings, consumer)
        return _Job(consumer, source, pipeline, monitor, dispatcher, watcher)

    return build


async def _watch_topics(resolver: SubscriptionResolver, settings: Settings, consumer: ConsumerLoop) -> None:
    async def on_change(now: Settings) -> None:
        if now.subscription:
            await asyncio.to_thread(prepare, now)
            await consumer.subscribe(now.subscription)

    await watch_topics(resolver, settings, on_change)


def _notifications(
    settings: Settings, routes: Sequence[Route], monitor: WorkerMonitor
) -> tuple[NotificationDispatcher, dict[str, Sink]]:
    """The dispatcher, and the sink that feeds it alerts where there is no broker."""
    alerts, sink = open_alert_source(settings)
    events, link_base = InstrumentedNotify(monitor.watch), settings.notify.link_base
    dispatcher = NotificationDispatcher(alerts, routes, alert_from_json, open_clock(), link_base, events)
    return dispatcher, {} if sink is None else {"notifier": sink}


async def _run_alone(build: Callable[[], _Job]) -> None:
    job = build()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, job.stop)
    try:
        await job.run()
    finally:
        job.close()
