"""The worker: a faust app whose ingest service reads in batches, and whose agents do what is record by record."""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import faust
from faust.types.auth import CredentialsT
from mode import Service

from stream_ad.errors import ConfigError, DataError, UnavailableError
from stream_ad.notifications.dispatcher import NotificationDispatcher, Route
from stream_ad.notifications.outbox import Outbox
from stream_ad.observability.instrumented import (
    InstrumentedNotify,
    InstrumentedPipeline,
    InstrumentedSink,
    InstrumentedSource,
    InstrumentedStates,
)
from stream_ad.observability.monitor import WorkerMonitor
from stream_ad.ports import Sink, Source
from stream_ad.runtime.consumer_loop import ConsumerLoop
from stream_ad.runtime.topic_watcher import follow
from stream_ad.settings import KafkaSettings, Settings
from stream_ad.wiring import (
    broker_credentials,
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

log = logging.getLogger(__name__)


def run_worker(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT; what is in hand is durable when it returns.

    Raises the StreamAdError that ended it: a missing broker, store or topic is found before anything is read.
    """
    own_source = settings.plugins.source is not None
    if embedded(settings) and not own_source:
        settings = with_machine_topic(settings)
    monitor = WorkerMonitor(settings, open_clock())
    fixed = embedded(settings) or own_source
    topics = None if fixed else SubscriptionResolver(settings, open_subscriptions(settings))
    try:
        settings = settings if topics is None else _topics_now(topics)
        prepare(settings)
        build = _builder(settings, monitor, topics)
        if fixed:
            asyncio.run(_run_alone(build))
        else:
            _run_in_faust(settings, build)
    finally:
        monitor.close()
        if topics is not None:
            topics.close()


def _topics_now(topics: SubscriptionResolver) -> Settings:
    """ConfigError when nobody subscribed to anything; a pattern that no topic matches yet is something."""
    now = topics.now()
    if not now.subscription and not topics.waits:
        raise ConfigError(
            "kafka.bootstrap is set but there is no [[subscription]]",
            hint="add one with its topic, or `stream-ad subscribe TOPIC`",
        )
    return now


@dataclass(slots=True)
class _Job:
    """The ingest, who watches it and who tells people of its alerts, on one event loop."""

    ingest: ConsumerLoop
    source: Source
    pipeline: InstrumentedPipeline
    monitor: WorkerMonitor
    dispatcher: NotificationDispatcher | None
    following: Callable[[ConsumerLoop], Coroutine[Any, Any, None]] | None

    async def run(self) -> None:
        """Until the ingest ends; it is stopped, and the error raised, should the watching or the telling fail."""
        running = asyncio.create_task(self.ingest.run())
        watching = asyncio.create_task(self.monitor.run(self.source, self.pipeline))
        beside = {watching}
        if self.following is not None:
            beside.add(asyncio.create_task(self.following(self.ingest)))
        telling = None if self.dispatcher is None else asyncio.create_task(self.dispatcher.run())
        if telling is not None:
            beside.add(telling)
        try:
            await asyncio.wait({running, *beside}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self.ingest.stop()
            await running
        finally:
            for task in beside:
                if task is not telling:
                    task.cancel()
            if self.dispatcher is not None:
                self.dispatcher.stop()
            await asyncio.wait(beside)
        for task in beside:
            if not task.cancelled():
                task.result()


def _builder(settings: Settings, monitor: WorkerMonitor, topics: SubscriptionResolver | None) -> Callable[[], _Job]:
    """A function that makes the job inside the event loop that will run it; the slow parts are made here."""
    pipeline = monitor.pipeline(settings, build_scorer(settings), open_profiles(settings))
    pipeline.subscribe(settings.subscription)  # a schema that cannot be read is told before anything is
    store, watch = open_store(settings), monitor.watch
    notifiers = [(route, open_notifier(settings, route)) for route in settings.notify.routes]

    def build() -> _Job:
        source, states = open_source(settings)
        routes = [Route(Outbox(route), notifier) for route, notifier in notifiers]
        dispatcher, fed = _notifying(settings, routes, monitor) if routes else (None, {})
        sinks = open_sinks(settings, store) | fed
        ingest = ConsumerLoop(
            InstrumentedSource(source, watch),
            pipeline,
            [InstrumentedSink(sink, part, watch) for part, sink in sinks.items()],
            None if states is None else InstrumentedStates(states, watch),
            open_clock(),
            on_outputs=monitor.meters.delivered,
        )
        following = None if topics is None else partial(_follow, topics, settings)
        return _Job(ingest, source, pipeline, monitor, dispatcher, following)

    return build


async def _follow(topics: SubscriptionResolver, settings: Settings, ingest: ConsumerLoop) -> None:
    async def changed(now: Settings) -> None:
        if now.subscription:
            await asyncio.to_thread(prepare, now)
            await ingest.subscribe(now.subscription)

    await follow(topics, settings, changed)


def _notifying(
    settings: Settings, routes: Sequence[Route], monitor: WorkerMonitor
) -> tuple[NotificationDispatcher, dict[str, Sink]]:
    """The notifier, and the sinks that it needs to hear of alerts."""
    from stream_ad.serde.alerts import alert_from_json

    alerts, sink = open_alert_source(settings)
    events, link_base = InstrumentedNotify(monitor.watch), settings.notify.link_base
    dispatcher = NotificationDispatcher(alerts, routes, alert_from_json, open_clock(), link_base, events)
    return dispatcher, {} if sink is None else {"notifier": sink}


async def _run_alone(build: Callable[[], _Job]) -> None:
    job = build()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, job.ingest.stop)
    try:
        await job.run()
    finally:
        job.ingest.close()


@dataclass(slots=True)
class _Outcome:
    """How the ingest ended; faust itself only knows that something crashed."""

    error: BaseException | None = None


def _run_in_faust(settings: Settings, build: Callable[[], _Job]) -> None:
    outcome = _Outcome()
    with tempfile.TemporaryDirectory(prefix="stream-ad-") as directory:
        app = _app(settings, directory)
        app.service(_consumer_service(build, outcome))
        worker = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, override_logging=False, quiet=True)
        worker.spinner = None  # it writes to a terminal that may not be one
        try:
            worker.execute_from_commandline()
        except SystemExit as exit_:
            if outcome.error is None and exit_.code:
                raise UnavailableError(
                    f"the agents lost the broker at {settings.kafka.bootstrap} while starting",
                    hint="start the worker again once the broker answers; nothing is lost",
                ) from None
    if outcome.error is not None:
        raise outcome.error


def _credentials(kafka: KafkaSettings) -> CredentialsT | None:
    """What the other clients show the broker, in faust's words."""
    options = broker_credentials(kafka)
    context = options.get("ssl_context")
    if kafka.sasl_mechanism is not None:
        user, password = options["sasl_plain_username"], options["sasl_plain_password"]
        return faust.SASLCredentials(
            username=user, password=password, ssl_context=context, mechanism=kafka.sasl_mechanism
        )
    return None if context is None else faust.SSLCredentials(context)


def _app(settings: Settings, directory: str) -> faust.App:
    kafka = settings.kafka
    servers = ";".join(f"kafka://{server.strip()}" for server in (kafka.bootstrap or "").split(","))
    app = faust.App(
        f"{kafka.group}.agents",
        broker=servers,
        broker_credentials=_credentials(kafka),
        datadir=directory,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        worker_redirect_stdouts=False,
        broker_session_timeout=kafka.session_timeout_s,
        broker_request_timeout=max(kafka.request_timeout_s, kafka.session_timeout_s) + 5,
        broker_commit_interval=2.0,
    )
    alerts = app.topic(kafka.alerts_topic, key_serializer="raw", value_serializer="raw")

    @app.agent(alerts, name="stream_ad.log")
    async def log_alerts(stream: faust.StreamT[bytes]) -> None:
        """One line an alert; messages to people are the notifier's (docs/notifications.md)."""
        async for payload in stream:
            _log_alert(payload)

    return app


def _log_alert(payload: bytes) -> None:
    from stream_ad.serde.alerts import alert_from_json

    try:
        alert = alert_from_json(payload)
    except DataError as error:
        log.warning("a record of the alerts topic is passed over: %s", error)
        return
    fields = {"alert_id": alert.id, "series": alert.series, "state": alert.state.value, "severity": alert.severity}
    log.info("alert %s", payload.decode("utf-8", "replace"), extra=fields)


def _consumer_service(build: Callable[[], _Job], outcome: _Outcome) -> type[Service]:
    class ConsumerService(Service):
        """Runs the ingest beside the agents; when it ends, the app ends."""

        abstract = False
        ingest: ConsumerLoop | None = None
        running: asyncio.Task[None] | None = None

        async def on_start(self) -> None:
            job = build()
            self.ingest = job.ingest
            self.running = asyncio.create_task(job.run())
            self.running.add_done_callback(self._ended)

        def _ended(self, running: asyncio.Task[None]) -> None:
            if not running.cancelled() and running.exception() is not None:
                outcome.error = running.exception()
                signal.raise_signal(signal.SIGTERM)  # faust stops every service in order

        async def on_stop(self) -> None:
            if self.ingest is not None and self.running is not None:
                self.ingest.stop()
                await asyncio.wait({self.running})
                await asyncio.to_thread(self.ingest.close)

    return ConsumerService
