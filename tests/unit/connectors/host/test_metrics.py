"""The machine sampler: rates from counters, odd platforms, exact multiples of the step."""

from __future__ import annotations

import math

import msgspec
import pytest
from stream_ad_connectors.host.metrics import HostMetrics, HostMetricsSource, read_counters, read_gauges

from stream_ad.errors import ConfigError
from stream_ad.records import SourceRecord
from tests.contracts.check_source import Listener

START_NS = 1_735_689_600_000_000_000


class FakeClock:
    """Wall time and monotonic time that move only by `sleep`."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.wall_ns, self.elapsed_s = now_ns, 100.0

    def now_ns(self) -> int:
        return self.wall_ns

    def monotonic_s(self) -> float:
        return self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.wall_ns += max(1, round(seconds * 1e9))
        self.elapsed_s += seconds


def sampler(clock: FakeClock, counters: list[dict[str, float]]) -> HostMetrics:
    readings = iter(counters)
    return HostMetrics(clock, gauges=lambda: {"load1": 0.5}, counters=lambda: next(readings))


async def test_rates_and_shares() -> None:
    clock = FakeClock()
    first = {"cpu_s.user": 10.0, "cpu_s.system": 5.0, "cpu_s.idle": 80.0, "cpu_s.iowait": 5.0, "net": 1000.0}
    second = {"cpu_s.user": 11.0, "cpu_s.system": 5.5, "cpu_s.idle": 82.0, "cpu_s.iowait": 5.5, "net": 3000.0}
    metrics = sampler(clock, [first, second])
    await clock.sleep(2.0)
    sample = metrics.sample()
    assert tuple(sample) == metrics.channels
    assert sample == {
        "cpu_percent": 37.5,
        "cpu_user_percent": 25.0,
        "cpu_system_percent": 12.5,
        "cpu_iowait_percent": 12.5,
        "load1": 0.5,
        "net": 1000.0,
    }


async def test_an_unavailable_value_is_no_reading() -> None:
    """A counter set back, a counter gone, no time passed, no CPU tick passed."""
    clock = FakeClock()
    still = {"cpu_s.user": 1.0, "cpu_s.idle": 1.0}
    metrics = sampler(clock, [{**still, "a": 5.0, "b": 5.0}, {**still, "a": 1.0}, {**still, "a": 9.0}])
    await clock.sleep(1.0)
    sample = metrics.sample()
    assert [math.isnan(sample[name]) for name in ("a", "b", "cpu_percent", "cpu_user_percent")] == [True] * 4
    assert sample["load1"] == 0.5
    assert math.isnan(metrics.sample()["a"])


def test_a_platform_without_disks_and_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError("not here")

    monkeypatch.setattr("psutil.disk_io_counters", lambda: None)
    monkeypatch.setattr("psutil.net_io_counters", absent)
    monkeypatch.delattr("os.getloadavg")
    channels = HostMetrics().channels
    assert "cpu_percent" in channels
    assert "memory_used_bytes" in channels
    assert not any(channel.startswith(("disk", "net", "load")) for channel in channels)


def test_this_machine() -> None:
    assert {"memory_used_bytes", "processes"} <= set(read_gauges())
    assert "cpu_s.user" in read_counters()
    sample = HostMetrics().sample()
    assert sample["memory_used_bytes"] > 0
    assert all(math.isnan(value) or value >= 0 for value in sample.values())


def counting(clock: FakeClock) -> HostMetrics:
    return HostMetrics(clock, gauges=lambda: {}, counters=lambda: {"n_per_s": clock.elapsed_s * 8})


def source_of(clock: FakeClock, step_s: float) -> HostMetricsSource:
    return HostMetricsSource(step_s, series="here", clock=clock, metrics=counting(clock), sleep=clock.sleep)


async def test_one_record_a_step_at_its_multiple() -> None:
    clock = FakeClock(START_NS + 130_000_000)
    source, listener = source_of(clock, 0.25), Listener()
    await source.start(listener)
    assert listener.partitions == [("machine", 0)]
    found: list[SourceRecord] = []
    while len(found) < 4:
        records = await source.poll(0.1)
        assert records is not None
        found.extend(records)
    times = [msgspec.json.decode(record.value or b"")["time"] * 10**6 - START_NS for record in found]
    assert times == [500_000_000, 750_000_000, 1_000_000_000, 1_250_000_000]
    assert [record.position.offset for record in found] == [0, 1, 2, 3]
    assert all(record.key == b"here" for record in found)
    assert msgspec.json.decode(found[-1].value or b"")["values"]["n_per_s"] == pytest.approx(8.0, rel=1e-3)


async def test_missed_steps_are_skipped() -> None:
    clock = FakeClock()
    source = source_of(clock, 1.0)
    await source.start(Listener())
    await clock.sleep(5.3)
    late, following = await source.poll(2.0), await source.poll(2.0)
    assert late
    assert following
    assert msgspec.json.decode(late[0].value or b"")["time"] * 10**6 == START_NS + 5 * 10**9
    assert msgspec.json.decode(following[0].value or b"")["time"] * 10**6 == START_NS + 6 * 10**9
    assert await source.poll(0.5) == []


async def test_a_clock_set_back_does_not_silence_it() -> None:
    clock = FakeClock()
    source = source_of(clock, 1.0)
    await source.start(Listener())
    await source.poll(2.0)
    clock.wall_ns -= 3600 * 10**9
    assert await source.poll(2.0)


async def test_a_step_must_be_whole_milliseconds() -> None:
    for step_s in (0.0, -1.0, 0.0001):
        with pytest.raises(ConfigError):
            HostMetricsSource(step_s)
    assert await HostMetricsSource().committed("machine", 0) is None
