"""Replays files into Kafka: the rows of all files in event-time order, at once or paced by the clock."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ad.durations import duration_ns
from stream_ad.errors import ConfigError
from stream_ad.ports import Clock
from stream_ad.records import Table
from stream_ad.serde.encoder import TimeFormat, encode_observation
from stream_ad.settings import Settings, Subscription
from stream_ad.timestamps import UNIT_NS, describe_span, format_ns

__all__ = ["Encoder", "Plan", "Publisher", "plan_replay", "replay", "subscription_for"]

PROGRESS_S = 0.2
SECOND_NS = 1_000_000_000
SLEEP_S = 0.1  # longest sleep, in which the producer sends the records that linger in its batch


class Publisher(Protocol):
    """A producer, see stream_ad_connectors.kafka.publisher."""

    def send(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int | None = None) -> None: ...
    def flush(self) -> None: ...


def subscription_for(settings: Settings, topic: str) -> Subscription | None:
    """The subscription of a topic; None when the config has none."""
    return next((s for s in settings.subscription if s.topic == topic), None)


class Encoder:
    """Encodes rows as the JSON records that a subscription expects; without a subscription, with ISO times."""

    def __init__(self, subscription: Subscription | None) -> None:
        if subscription and subscription.format != "json":
            raise ConfigError(
                f"topic {subscription.topic!r} has format {subscription.format!r}; replay writes JSON only"
            )
        self.time_format: TimeFormat = subscription.time_unit if subscription else "iso"
        names = (
            (subscription.series_field, subscription.time_field, subscription.values_field) if subscription else None
        )
        self._names = None if names == ("series", "time", "values") else names

    @property
    def quantum_ns(self) -> int:
        """The smallest time difference that a record can represent."""
        return 1 if self.time_format == "iso" else UNIT_NS[self.time_format]

    def encode(self, series: str, time_ns: int, channels: Sequence[str], row: Sequence[float]) -> bytes:
        """DataError when the topic's time_unit cannot represent the time."""
        value = encode_observation(series, time_ns, channels, row, self.time_format)
        return value if self._names is None else self._renamed(value, self._names)

    @staticmethod
    def _renamed(value: bytes, names: tuple[str, str, str]) -> bytes:
        record = msgspec.json.decode(value)
        renamed = {names[0]: record["series"], names[1]: record["time"]}
        return msgspec.json.encode(renamed | ({names[2]: record["values"]} if names[2] else record["values"]))


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Tables with the event times of their rows (int64 [row] each). speed: a multiple of real time, inf = at once."""

    tables: tuple[Table, ...]
    times_ns: tuple[NDArray[np.int64], ...]
    speed: float

    @property
    def rows(self) -> int:
        return sum(len(table) for table in self.tables)

    @property
    def first_ns(self) -> int:
        return min(int(times.min()) for times in self.times_ns)

    @property
    def last_ns(self) -> int:
        return max(int(times.max()) for times in self.times_ns)


def plan_replay(
    tables: Sequence[Table],
    *,
    now_ns: int,
    speed: float = math.inf,
    start_ns: int | None = None,
    step_ns: int | None = None,
    max_ahead: str = "5min",
    quantum_ns: int = 1,
) -> Plan:
    """Assigns an event time to every row.

    Tables without times begin at start_ns; by default such that the last row is sent at its own event time. Tables of
    one series without times follow each other. ConfigError when times are needed but there is no step, or when rows
    would be further ahead of the clock than max_ahead: a worker would dead-letter them.
    """
    kept = [table for table in tables if len(table)]
    if not kept:
        raise ConfigError("expected files with rows, found none")
    untimed = [table for table in kept if table.times_ns is None]
    if untimed and step_ns is None:
        raise ConfigError(
            f"series {untimed[0].series!r} has no timestamps and the step is not known",
            hint="give --step, or a step in the topic's [[subscription]]",
        )
    firsts = _first_rows(kept)
    if start_ns is None and untimed:
        span_ns = (step_ns or 0) * max(firsts[i] + len(t) - 1 for i, t in enumerate(kept) if t.times_ns is None)
        start_ns = now_ns - span_ns + int(span_ns / speed)
        start_ns -= start_ns % max(quantum_ns, SECOND_NS if (step_ns or 0) % SECOND_NS == 0 else 1)  # round times
    times = []
    for table, first in zip(kept, firsts, strict=True):
        own = table.times_ns
        rows = first + np.arange(len(table), dtype=np.int64)
        times.append((start_ns or 0) + rows * (step_ns or 0) if own is None else own)
    plan = Plan(tuple(kept), tuple(times), speed)
    _check_ahead(plan, now_ns, max_ahead)
    return plan


def _first_rows(tables: Sequence[Table]) -> list[int]:
    """First row number of each table, counted over the untimed tables of its series."""
    rows: dict[str, int] = {}
    firsts = []
    for table in tables:
        firsts.append(rows.get(table.series, 0))
        if table.times_ns is None:
            rows[table.series] = firsts[-1] + len(table)
    return firsts


def _check_ahead(plan: Plan, now_ns: int, max_ahead: str) -> None:
    sent_ns = now_ns + (plan.last_ns - plan.first_ns) / plan.speed
    ahead_ns = int(plan.last_ns - sent_ns)
    if ahead_ns > duration_ns(max_ahead):
        raise ConfigError(
            f"the last row ({format_ns(plan.last_ns)}) would be {describe_span(ahead_ns)} ahead of the clock, "
            f"more than detector.max_ahead = {max_ahead}: a worker would dead-letter such rows",
            hint="give an earlier --start, or raise detector.max_ahead",
        )


def replay(
    plan: Plan,
    topic: str,
    publisher: Publisher,
    encoder: Encoder,
    clock: Clock,
    *,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[int], None] = lambda sent: None,
) -> int:
    """Sends every row, with the series as key; returns their number once all are acknowledged.

    The record's timestamp is the clock, or the event time where that is later. `progress` receives the number sent so
    far, a few times a second. Rows of one file keep their order, also where its times run backwards.
    """
    sent, progress_s = 0, clock.monotonic_s()
    begun_s, first_ns = progress_s, plan.first_ns
    for time_ns, _, key, value in _merged(plan, encoder):
        due_s = begun_s + (time_ns - first_ns) / 1e9 / plan.speed
        while (left_s := due_s - clock.monotonic_s()) > 0:
            sleep(min(left_s, SLEEP_S))
            progress(sent)
        publisher.send(topic, key, value, max(clock.now_ns(), time_ns) // 1_000_000)
        sent += 1
        if sent % 256 == 0 and clock.monotonic_s() - progress_s > PROGRESS_S:
            progress_s = clock.monotonic_s()
            progress(sent)
    publisher.flush()
    progress(sent)
    return sent


def _merged(plan: Plan, encoder: Encoder) -> Iterator[tuple[int, int, bytes, bytes]]:
    """(event time, table, key, record), earliest first."""

    def rows(number: int) -> Iterator[tuple[int, int, bytes, bytes]]:
        table, times = plan.tables[number], plan.times_ns[number].tolist()
        key = table.series.encode()
        for time_ns, row in zip(times, table.values, strict=True):
            yield time_ns, number, key, encoder.encode(table.series, time_ns, table.channels, row.tolist())

    return heapq.merge(*(rows(i) for i in range(len(plan.tables))), key=lambda row: row[:2])
