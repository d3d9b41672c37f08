"""Everything that watches a worker, put together: metrics, health over HTTP, the watchdog."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from importlib.metadata import version

from stream_ad.errors import UnavailableError
from stream_ad.observability.endpoints import HealthServer
from stream_ad.observability.instrumented import Instrumentation, InstrumentedPipeline
from stream_ad.observability.metrics import Metrics
from stream_ad.observability.watchdog import Watchdog, end_process
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.pipeline.pipeline import Partition
from stream_ad.ports import Clock, LagReader, PartitionLag, ProfileStore, Scorer, Source
from stream_ad.settings import Settings

__all__ = ["BROKER", "GIVE_BACK_S", "WorkerMonitor", "give_back"]


def give_back() -> None:
    """Does nothing where the C library is another one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


BEAT_S = 1.0
MEASURE_S = 3.0
GIVE_BACK_S = 30.0
BROKER = "broker"

log = logging.getLogger(__name__)


class WorkerMonitor:
    """One a worker. `watch` is what its parts report to; ConfigError when the port is taken."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings.observability
        self._clock = clock
        self.health = WorkerHealth(clock)
        self.meters = Metrics(self.health)
        self.watch = Instrumentation(self.health, self.meters)
        self._server: HealthServer | None = None
        if self._settings.port:
            host = self._settings.host
            self._server = HealthServer(host, self._settings.port, self.health, self.meters.registry)
            log.info("/metrics, /healthz and /readyz at http://%s:%d", host, self._server.port)

    def pipeline(self, settings: Settings, scorer: Scorer, profiles: ProfileStore) -> InstrumentedPipeline:
        self.meters.model(version("stream-ad"), scorer.name, scorer.version)
        return InstrumentedPipeline(settings, scorer, profiles, self.watch)

    async def run(self, source: Source, pipeline: InstrumentedPipeline) -> None:
        """Until cancelled, on the event loop of the ingest: its beats tell that the loop turns."""
        watchdog = Watchdog(self.health, self._settings, end_process(asyncio.get_running_loop()))
        watchdog.start()
        try:
            await asyncio.gather(self._beat(), self._measure(source, pipeline), self._give_back())
        finally:
            watchdog.stop()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _beat(self) -> None:
        while True:
            self.health.beats += 1
            await asyncio.sleep(BEAT_S)

    async def _give_back(self) -> None:
        while True:
            await asyncio.sleep(GIVE_BACK_S)
            await asyncio.to_thread(give_back)

    async def _measure(self, source: Source, pipeline: InstrumentedPipeline) -> None:
        before: dict[Partition, PartitionLag] = {}
        while True:
            asked_s = self._clock.monotonic_s()
            try:
                lags = await self._standing(source)
            except UnavailableError as error:
                self.watch.away(BROKER, error)
            else:
                self.health.found(BROKER)
                self.health.settled = lags is not None
                held, before = before, dict(lags or {})
                self.health.lags = before
                for place, one in before.items():
                    pipeline.observe_end_offset(*place, 0 if self._idle(one, held.get(place)) else one.end, asked_s)
            self.health.restoring = pipeline.restoring
            self.health.newest_ns = await asyncio.to_thread(pipeline.newest_ns)
            self.health.series = pipeline.series_count
            await asyncio.sleep(MEASURE_S if self.health.settled else BEAT_S)

    def _idle(self, now: PartitionLag, before: PartitionLag | None) -> bool:
        """All was read at the last look already, and is processed. Offsets alone do not say so: the last ones may be
        marks of transactions, which no record has."""
        return now.lag == 0 and now == before and not self.health.actions

    async def _standing(self, source: Source) -> dict[Partition, PartitionLag] | None:
        """A source that cannot say is read to its end all the time."""
        if isinstance(source, LagReader):
            found = await source.lags()
            return None if found is None else dict(found)
        return {place: PartitionLag(0, 0) for place in self.health.partitions} or None
