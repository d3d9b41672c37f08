"""This machine's metrics from psutil as a live source: the input without a broker."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

import psutil

from stream_ad.errors import ConfigError
from stream_ad.ports import AssignmentListener, Clock
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.serde.encoder import encode_observation
from stream_ad_connectors.host.clock import SystemClock
from stream_ad_connectors.in_process.bus import NonReplayableSource

__all__ = ["HostMetrics", "HostMetricsSource", "read_counters", "read_gauges"]

TOPIC = "machine"
_CPU = "cpu_s."
_GUEST = ("guest", "guest_nice")  # already in user and nice
_ABSENT = (OSError, NotImplementedError, AttributeError, psutil.Error)


def read_gauges() -> dict[str, float]:
    """Current values; the platform may lack some."""
    return _merged(_load, _memory, _swap, _processes)


def read_counters() -> dict[str, float]:
    """Counters since the machine started: CPU seconds as `cpu_s.<state>`, the others by the name of their rate."""
    return _merged(_cpu, _disk, _network, _switches)


def _merged(*groups: Callable[[], dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for group in groups:
        try:
            found |= group()
        except _ABSENT:
            continue
    return found


def _load() -> dict[str, float]:
    return {"load1": os.getloadavg()[0]}


def _memory() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {"memory_used_bytes": float(memory.used), "memory_available_bytes": float(memory.available)}


def _swap() -> dict[str, float]:
    return {"swap_used_bytes": float(psutil.swap_memory().used)}


def _processes() -> dict[str, float]:
    return {"processes": float(len(psutil.pids()))}


def _cpu() -> dict[str, float]:
    times = psutil.cpu_times()._asdict()
    return {_CPU + state: float(seconds) for state, seconds in times.items() if state not in _GUEST}


def _disk() -> dict[str, float]:
    disk = psutil.disk_io_counters()
    if disk is None:
        return {}
    return {"disk_read_bytes_per_s": float(disk.read_bytes), "disk_write_bytes_per_s": float(disk.write_bytes)}


def _network() -> dict[str, float]:
    network = psutil.net_io_counters()
    if network is None:
        return {}
    return {"net_sent_bytes_per_s": float(network.bytes_sent), "net_received_bytes_per_s": float(network.bytes_recv)}


def _switches() -> dict[str, float]:
    stats = psutil.cpu_stats()
    found = {"context_switches_per_s": float(stats.ctx_switches), "interrupts_per_s": float(stats.interrupts)}
    return {name: count for name, count in found.items() if count > 0}  # 0: the platform does not count them


class HostMetrics:
    """Samples {channel: value}: gauges, rates since the last sample, and CPU percent of the whole machine.

    The channels are fixed at creation. NaN: a counter was reset, or no time has passed since the last sample.
    Trap: CPU time advances in steps of 10 ms, so percentages over less than about 0.1 s are coarse.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        gauges: Callable[[], Mapping[str, float]] = read_gauges,
        counters: Callable[[], Mapping[str, float]] = read_counters,
    ) -> None:
        self._clock, self._gauges, self._counters = clock or SystemClock(), gauges, counters
        self._last = dict(counters())
        self._last_s = self._clock.monotonic_s()
        self.channels: tuple[str, ...] = tuple(sorted({*gauges(), *self._rates({}, 1.0), *self._cpu({})}))

    def sample(self) -> dict[str, float]:
        """A value of every channel, in the order of `channels`."""
        now, now_s = dict(self._counters()), self._clock.monotonic_s()
        found = {**self._gauges(), **self._rates(now, now_s - self._last_s), **self._cpu(now)}
        self._last, self._last_s = now, now_s
        return {channel: found.get(channel, math.nan) for channel in self.channels}

    def _rates(self, now: Mapping[str, float], elapsed_s: float) -> dict[str, float]:
        found = {}
        for name, before in self._last.items():
            if not name.startswith(_CPU):
                grown = now.get(name, math.nan) - before
                found[name] = grown / elapsed_s if elapsed_s > 0 and grown >= 0 else math.nan
        return found

    def _cpu(self, now: Mapping[str, float]) -> dict[str, float]:
        before = {name: seconds for name, seconds in self._last.items() if name.startswith(_CPU)}
        if not before:
            return {}
        spent = {name.removeprefix(_CPU): now.get(name, math.nan) - seconds for name, seconds in before.items()}
        total = math.fsum(spent.values())
        # on some kernels idle and iowait may decrease by a tick
        share = {
            state: 100.0 * max(seconds, 0.0) / total if total > 0 else math.nan for state, seconds in spent.items()
        }
        found = {f"cpu_{state}_percent": share[state] for state in ("user", "system", "iowait") if state in share}
        busy = 100.0 - share.get("idle", math.nan) - share.get("iowait", 0.0)
        return {"cpu_percent": max(busy, 0.0) if math.isfinite(busy) else math.nan, **found}


class HostMetricsSource(NonReplayableSource):
    """ports.Source of one series: topic "machine", partition 0, offsets counting from 0; it never ends by itself.

    One record per step; its event time is an exact multiple of step_s (whole milliseconds) since 1970. Steps that pass
    without a poll are skipped: their slots stay empty. Records cannot be read again: `committed` is None.
    """

    def __init__(
        self,
        step_s: float = 1.0,
        *,
        series: str | None = None,
        clock: Clock | None = None,
        metrics: HostMetrics | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.step_ns = round(step_s * 1e9)
        if self.step_ns <= 0 or self.step_ns % 1_000_000:
            raise ConfigError(f"machine metrics: expected a step of whole milliseconds, found {step_s} s")
        self.series = series or socket.gethostname()
        self._clock, self._metrics, self._sleep = clock or SystemClock(), metrics, sleep
        self._due_ns = 0
        self._offset = 0

    async def start(self, listener: AssignmentListener) -> None:
        """The first record is due after at least half a step: a rate over a shorter time would be noise."""
        await listener.assigned(TOPIC, 0)
        if self._metrics is None:
            self._metrics = HostMetrics(self._clock)
        self._metrics.sample()
        self._due_ns = self._next_ns(self._clock.now_ns() + self.step_ns // 2)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        """One record if it is due within timeout_s."""
        if self._metrics is None:
            raise RuntimeError("poll before start")
        left_s = self._left_s()
        if left_s > timeout_s:
            await self._sleep(max(timeout_s, 0.0))
            return []
        while left_s > 0:
            await self._sleep(left_s)
            left_s = self._left_s()
        now_ns = self._clock.now_ns()
        time_ns = now_ns - now_ns % self.step_ns
        self._due_ns = time_ns + self.step_ns
        values = self._metrics.sample()
        value = encode_observation(self.series, time_ns, values, list(values.values()))
        position = SourcePosition(TOPIC, 0, self._offset)
        self._offset += 1
        return [SourceRecord(position, now_ns, self.series.encode(), value)]

    async def stop(self) -> None:
        """Holds no resources."""

    def _left_s(self) -> float:
        """Time until the next record; after the wall clock was set back, until the next step of the new time."""
        now_ns = self._clock.now_ns()
        if self._due_ns - now_ns > 2 * self.step_ns:
            self._due_ns = self._next_ns(now_ns)
        return (self._due_ns - now_ns) / 1e9

    def _next_ns(self, time_ns: int) -> int:
        return (time_ns // self.step_ns + 1) * self.step_ns
