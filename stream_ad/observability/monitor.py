"""Monitoring of one worker: metrics, health over HTTP, the watchdog, and free memory returned to the system."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from importlib.metadata import version

from stream_ad.errors import UnavailableError
from stream_ad.observability.endpoints import HealthServer
from stream_ad.observability.instrumented import Instrumentation, instrument_pipeline, instrument_scorer
from stream_ad.observability.metrics import Metrics
from stream_ad.observability.watchdog import Watchdog, end_process
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Clock, LagReader, PartitionLag, ProfileStore, Scorer, Source
from stream_ad.records import Partition
from stream_ad.settings import Settings

__all__ = ["BROKER", "TRIM_S", "WorkerMonitor", "trim_malloc"]

HEARTBEAT_S = 1.0
MEASURE_S = 3.0
TRIM_S = 30.0
BROKER = "broker"

log = logging.getLogger(__name__)


def trim_malloc() -> None:
    """Returns free heap pages to the system; does nothing with a C library other than glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class WorkerMonitor:
    """One per worker. The worker's components report to `watch`. ConfigError when the port cannot be bound."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings.observability
        self._clock = clock
        self.health = WorkerHealth(clock)
        self.metrics = Metrics(self.health)
        self.watch = Instrumentation(self.health, self.metrics)
        self._server: HealthServer | None = None
        if self._settings.port:
            host = self._settings.host
            self._server = HealthServer(host, self._settings.port, self.health, self.metrics.registry)
            log.info("/metrics, /healthz and /readyz at http://%s:%d", host, self._server.port)

    def pipeline(self, settings: Settings, scorer: Scorer, profiles: ProfileStore) -> Pipeline:
        """An instrumented pipeline."""
        self.metrics.model(version("stream-ad"), scorer.name, scorer.version)
        return instrument_pipeline(Pipeline(settings, instrument_scorer(scorer, self.watch), profiles), self.watch)

    async def run(self, source: Source, pipeline: Pipeline) -> None:
        """Until cancelled. Run it on the consumer loop's event loop: the heartbeats show that this one turns."""
        watchdog = Watchdog(self.health, self._settings, end_process(asyncio.get_running_loop()))
        watchdog.start()
        try:
            await asyncio.gather(self._send_heartbeats(), self._measure(source, pipeline), self._trim_memory())
        finally:
            watchdog.stop()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _send_heartbeats(self) -> None:
        while True:
            self.health.heartbeats += 1
            await asyncio.sleep(HEARTBEAT_S)

    async def _trim_memory(self) -> None:
        while True:
            await asyncio.sleep(TRIM_S)
            await asyncio.to_thread(trim_malloc)

    async def _measure(self, source: Source, pipeline: Pipeline) -> None:
        """Asks the broker for the lag, by which `pipeline` distinguishes a silent series from a backlog."""
        lags: dict[Partition, PartitionLag] = {}
        while True:
            asked_s = self._clock.monotonic_s()
            try:
                found = await self._lags(source)
            except UnavailableError as error:
                self.watch.dependency_down(BROKER, error)
            else:
                self.health.dependency_up(BROKER)
                self.health.assignment_stable = found is not None
                before, lags = lags, dict(found or {})
                self.health.lags = lags
                for place, one in lags.items():
                    end = 0 if self._caught_up(one, before.get(place)) else one.end
                    pipeline.observe_end_offset(*place, end, asked_s)
            self.health.replaying = pipeline.restoring
            self.health.newest_ns = await asyncio.to_thread(pipeline.newest_ns)
            self.health.series = pipeline.series_count
            await asyncio.sleep(MEASURE_S if self.health.assignment_stable else HEARTBEAT_S)

    def _caught_up(self, now: PartitionLag, before: PartitionLag | None) -> bool:
        """All records were read at the last measurement already, and are processed. Offsets alone do not show it: the
        last ones may be transaction markers, which no record has."""
        return now.lag == 0 and now == before and not self.health.actions

    async def _lags(self, source: Source) -> dict[Partition, PartitionLag] | None:
        """A source that cannot report its lag counts as caught up all the time."""
        if isinstance(source, LagReader):
            found = await source.lags()
            return None if found is None else dict(found)
        return {place: PartitionLag(0, 0) for place in self.health.partitions} or None
