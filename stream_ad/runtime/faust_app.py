"""The faust app around a worker's job.

What faust is for here: it runs the job as one of its services, and today its only agent reads the alerts topic, in the
group `<group>.agents`, and logs one line per alert. The job itself (consumer loop, notifications) does not use faust.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
from collections.abc import Callable
from typing import Protocol

import faust
from faust.types.auth import CredentialsT
from mode import Service

from stream_ad.errors import DataError, UnavailableError
from stream_ad.serde.alerts import alert_from_json
from stream_ad.settings import KafkaSettings, Settings
from stream_ad.wiring import broker_credentials

__all__ = ["Job", "run_in_faust"]

log = logging.getLogger(__name__)


class Job(Protocol):
    """What a worker runs on its event loop."""

    async def run(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


def run_in_faust(settings: Settings, build: Callable[[], Job]) -> None:
    """Runs the job that `build` makes on faust's event loop, until SIGTERM or SIGINT. Raises the job's error."""
    errors: list[BaseException] = []  # of the job; faust itself only knows that something crashed
    with tempfile.TemporaryDirectory(prefix="stream-ad-") as directory:
        app = _app(settings, directory)
        app.service(_job_service(build, errors))
        worker = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, override_logging=False, quiet=True)
        worker.spinner = None  # it writes to a terminal, and there may be none
        try:
            worker.execute_from_commandline()
        except SystemExit as exit_:
            if not errors and exit_.code:
                raise UnavailableError(
                    f"the agents lost the broker at {settings.kafka.bootstrap} while starting",
                    hint="start the worker again once the broker answers; nothing is lost",
                ) from None
    if errors:
        raise errors[0]


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
        """One log line per alert event; the notification dispatcher sends the messages to people."""
        async for payload in stream:
            _log_alert(payload)

    return app


def _credentials(kafka: KafkaSettings) -> CredentialsT | None:
    """The credentials of the other Kafka clients, as faust's classes."""
    options = broker_credentials(kafka)
    context = options.get("ssl_context")
    if kafka.sasl_mechanism is not None:
        user, password = options["sasl_plain_username"], options["sasl_plain_password"]
        return faust.SASLCredentials(
            username=user, password=password, ssl_context=context, mechanism=kafka.sasl_mechanism
        )
    return None if context is None else faust.SSLCredentials(context)


def _log_alert(payload: bytes) -> None:
    try:
        alert = alert_from_json(payload)
    except DataError as error:
        log.warning("a record of the alerts topic is skipped: %s", error)
        return
    fields = {"alert_id": alert.id, "series": alert.series, "state": alert.state.value, "severity": alert.severity}
    log.info("alert %s", payload.decode("utf-8", "replace"), extra=fields)


def _job_service(build: Callable[[], Job], errors: list[BaseException]) -> type[Service]:
    class JobService(Service):
        """Runs the job next to the agents; when the job fails, the app ends."""

        abstract = False
        job: Job | None = None
        running: asyncio.Task[None] | None = None

        async def on_start(self) -> None:
            self.job = build()
            self.running = asyncio.create_task(self.job.run())
            self.running.add_done_callback(self._ended)

        def _ended(self, running: asyncio.Task[None]) -> None:
            if not running.cancelled() and (error := running.exception()) is not None:
                errors.append(error)
                signal.raise_signal(signal.SIGTERM)  # faust then stops every service in order

        async def on_stop(self) -> None:
            if self.job is not None and self.running is not None:
                self.job.stop()
                await asyncio.wait({self.running})
                await asyncio.to_thread(self.job.close)

    return JobService
