"""Replay: order, times, record timestamps and pace, with a publisher that only remembers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.errors import ConfigError, DataError
from stream_ad.records import SourcePosition, SourceRecord, Table
from stream_ad.runtime.replay import Encoder, plan_replay, replay
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import DetectorSettings, Subscription

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


@dataclass
class FakeClock:
    """Time that passes by sleeping alone."""

    at_s: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        return NOW + round(self.at_s * SECOND)

    def monotonic_s(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at_s += seconds


@dataclass
class FakePublisher:
    sent: list[tuple[str, bytes | None, bytes | None, int | None]] = field(default_factory=list)
    flushed: int = 0

    def send(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None) -> None:
        self.sent.append((topic, key, value, timestamp_ms))

    def flush(self) -> None:
        self.flushed = len(self.sent)

    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(value or b"") for _, _, value, _ in self.sent]


def table(series: str, rows: int, times: list[int] | None = None) -> Table:
    values = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
    return Table(series, ("a", "b"), None if times is None else np.array(times, dtype=np.int64), values, None)


def run(tables: list[Table], subscription: Subscription | None = None, **plan: object) -> FakePublisher:
    publisher, clock, encoder = FakePublisher(), FakeClock(), Encoder(subscription)
    made = plan_replay(tables, now_ns=NOW, quantum_ns=encoder.quantum_ns, **plan)  # type: ignore[arg-type]
    assert replay(made, "t", publisher, encoder, clock, sleep=clock.sleep) == made.rows == publisher.flushed
    return publisher


def test_without_start_the_last_row_is_now() -> None:
    publisher = run([table("s", 3), table("longer", 5)], step_ns=SECOND)
    times = [body["time"] for body in publisher.bodies() if body["series"] == "longer"]
    assert times[-1] == "2023-11-14T22:13:20.000000000Z"
    assert times[0] == "2023-11-14T22:13:16.000000000Z"
    assert [key for _, key, _, _ in publisher.sent[:3]] == [b"s", b"longer", b"s"]
    assert {ms for *_, ms in publisher.sent} == {NOW // 1_000_000}, "the record's own time is the clock"


def test_a_subscription_sets_field_names_and_time_unit() -> None:
    subscription = Subscription(topic="t", time_unit="s", series_field="id", time_field="ts", values_field="")
    publisher = run([table("s", 2)], subscription, step_ns=SECOND)
    assert publisher.bodies()[1] == {"id": "s", "ts": NOW // SECOND, "a": 2.0, "b": 3.0}
    record = SourceRecord(SourcePosition("t", 0, 0), NOW, b"s", publisher.sent[1][2])
    observations, dead = Decoder(subscription, DetectorSettings()).decode(record)
    assert not dead
    assert observations[0].values == {"a": 2.0, "b": 3.0}


def test_a_time_unit_that_is_too_coarse_is_rejected() -> None:
    with pytest.raises(DataError, match="whole s"):
        run([table("s", 3)], Subscription(topic="t", time_unit="s"), step_ns=SECOND // 2)


def test_times_of_a_file_override_start_and_step() -> None:
    publisher = run([table("s", 2, [5 * SECOND, 7 * SECOND])], start_ns=NOW, step_ns=SECOND)
    assert [body["time"] for body in publisher.bodies()] == [
        "1970-01-01T00:00:05.000000000Z",
        "1970-01-01T00:00:07.000000000Z",
    ]


def test_tables_of_one_series_follow_each_other() -> None:
    publisher = run([table("s", 2), table("s", 3)], start_ns=0, step_ns=SECOND)
    assert [str(body["time"])[17:19] for body in publisher.bodies()] == ["00", "01", "02", "03", "04"]


def test_missing_readings_are_null() -> None:
    one = table("s", 1)
    one.values[0, 1] = np.nan
    assert run([one], step_ns=SECOND).bodies()[0]["values"] == {"a": 0.0, "b": None}


def test_the_record_timestamp_is_the_event_time_when_that_is_later() -> None:
    publisher = run([table("s", 2)], start_ns=NOW + 10 * SECOND, step_ns=SECOND)
    assert [ms for *_, ms in publisher.sent] == [NOW // 1_000_000 + 10_000, NOW // 1_000_000 + 11_000]


def test_rows_too_far_ahead_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"would be 0:16:39 ahead .* detector.max_ahead = 5min"):
        run([table("s", 1000)], start_ns=NOW, step_ns=SECOND)
    run([table("s", 1000)], start_ns=NOW, step_ns=SECOND, speed=1.0)  # by then the clock is there


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_rows_are_paced_by_the_clock(speed: float) -> None:
    publisher, clock, encoder = FakePublisher(), FakeClock(), Encoder(None)
    plan = plan_replay([table("s", 41)], now_ns=NOW, speed=speed, step_ns=SECOND)
    replay(plan, "t", publisher, encoder, clock, sleep=clock.sleep)
    assert clock.at_s == pytest.approx(40 / speed)
    last_ns = plan.last_ns
    assert abs(last_ns - clock.now_ns()) < SECOND // 1000, "the last row is now when it is sent"


def test_empty_files_and_a_missing_step_are_rejected() -> None:
    with pytest.raises(ConfigError, match="files with rows"):
        plan_replay([table("s", 0)], now_ns=NOW)
    with pytest.raises(ConfigError, match=r"'s' has no timestamps .*--step"):
        plan_replay([table("s", 1)], now_ns=NOW)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=12), min_size=1, max_size=4))
def test_event_time_order_over_files_and_file_order_within(offsets: list[list[int]]) -> None:
    ordered = all(times == sorted(times) for times in offsets)
    tables = [table(f"s{i}", len(times), [t * SECOND for t in times]) for i, times in enumerate(offsets)]
    publisher, clock = FakePublisher(), FakeClock()
    plan = plan_replay(tables, now_ns=NOW, speed=math.inf)
    replay(plan, "t", publisher, Encoder(Subscription(topic="t", time_unit="s")), clock, sleep=clock.sleep)
    sent = [(str(body["series"]), body["time"]) for body in publisher.bodies()]
    for i, times in enumerate(offsets):
        assert [time for series, time in sent if series == f"s{i}"] == times
    if ordered:
        assert [time for _, time in sent] == sorted(time for times in offsets for time in times)
