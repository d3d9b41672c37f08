"""Hostile records among good ones, through a topic and a worker into a store, each accounted for."""

from __future__ import annotations

import json
import random
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from kafka import KafkaConsumer, TopicPartition
from stream_ad_connectors.kafka.publisher import KafkaPublisher

from tests.reference.records import Reading, judge
from tests.support.hostile.records import CHANNELS, START_MS, Fuzzer, Record
from tests.support.hostile.run import Contents, HostileRun
from tests.support.services.influxdb import Influx, create_bucket
from tests.support.services.process import wait_until

PARTITIONS = 4
TRAIN = 1024
STEP_NS = 1_000_000_000
LATENESS, REVISE = 1, 256  # the product's defaults, in slots
GOOD = [f"good {number}" for number in range(3)]
OWN = [f"hostile-{number}" for number in range(8)]
FAR = "hostile-far"
WARM_UP = 10  # good rows before any hostile record
KEPT_BYTES = 500_000  # of a dead letter's value
EXAMPLES = 20


@dataclass
class Expected:
    """The judge's verdict on one hostile record."""

    kind: str
    checksum: int
    size: int | None
    scored: list[tuple[str, int, bool]] = field(default_factory=list)  # series, event time, whether it has a number
    maybe: list[tuple[str, int, bool]] = field(default_factory=list)  # scored, or late: a dead letter
    waiting: list[str] = field(default_factory=list)  # series without a profile: known, not yet scored
    must_be_dead: bool = False
    may_be_dead: bool = False


@dataclass
class Outcome:
    """Counts of hostile records; one that is partly good may count as scored and as dead_lettered.

    unaccounted: neither in the store, nor known, nor dead-lettered, or contrary to the judge. good_differing: slots of
    good series whose score differs from the clean run's by more than 1e-4.
    """

    seed: int
    sent: int = 0
    scored: int = 0
    masked: int = 0
    waiting: int = 0
    dead_lettered: int = 0
    crashes: int = 0
    unaccounted: int = 0
    good_sent: int = 0
    good_scores: int = 0
    good_differing: int = 0
    good_alerts: int = 0
    good_alerts_differing: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    drained_s: float = 0.0

    @property
    def clean(self) -> bool:
        return not (self.crashes or self.unaccounted or self.good_differing or self.good_alerts_differing)


Places = list[list[Expected | None]]


class Judge:
    """Predicts, without the product's code, the outcome of each hostile record; tracks each series' newest time."""

    def __init__(self) -> None:
        self._newest: dict[tuple[int, str], int] = {}
        self._first: dict[tuple[int, str], int] = {}

    def newest(self, names: Sequence[str]) -> list[tuple[tuple[int, str], int]]:
        """Partition and series -> event time."""
        return [(place, time_ns) for place, time_ns in self._newest.items() if place[1] in names]

    def expect(self, record: Record) -> Expected:
        readings, refused = judge(record.value, record.key, record.timestamp_ms)
        value = record.value
        one = Expected(record.kind, zlib.crc32(value or b""), None if value is None else len(value))
        one.must_be_dead = one.may_be_dead = refused
        for reading in readings:
            self._reading(one, reading, record.partition)
        return one

    def _reading(self, one: Expected, reading: Reading, partition: int) -> None:
        place = (partition, reading.series)
        if reading.series not in (*OWN, FAR, *GOOD):
            one.waiting.append(reading.series)
            one.may_be_dead = True  # it may be late, or name a channel too many
            return
        known = {c: v for c, v in reading.values.items() if c in CHANNELS} if reading.series not in GOOD else {}
        wrong_channel = len(known) < len(reading.values) and reading.series not in GOOD
        if wrong_channel or reading.series in GOOD:  # hostile to a good series: an unknown channel, or far too late
            one.must_be_dead = one.may_be_dead = True
        if not known:
            return
        newest = self._newest.get(place)
        behind = 0.0 if newest is None else (newest - reading.time_ns) / STEP_NS
        self._newest[place] = max(newest or 0, reading.time_ns)
        first = self._first.setdefault(place, reading.time_ns)
        if behind > LATENESS + REVISE + 1:
            one.must_be_dead = one.may_be_dead = True
            return
        slot = (reading.series, reading.time_ns, any(v == v for v in known.values()))
        if behind > LATENESS or reading.time_ns < first:
            one.may_be_dead = True
            one.maybe.append(slot)
        else:
            one.scored.append(slot)


def good_frame(name: str, rows: int) -> pd.DataFrame:
    """Two cycles and noise, a function of the name; an excursion in its last quarter."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    steps = np.arange(rows)
    table = {f"{name}-x": np.sin(steps / 7) + 0.1 * rng.normal(size=rows), "y": np.cos(steps / 19)}
    table["y"] = table["y"] + 0.1 * rng.normal(size=rows)
    table["y"][rows - rows // 5 : rows - rows // 5 + 12] += 4
    return pd.DataFrame(table).astype(np.float32).round(4)


def own_frame(name: str) -> pd.DataFrame:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return pd.DataFrame(rng.normal(size=(TRAIN, len(CHANNELS))).astype(np.float32), columns=list(CHANNELS))


def write_histories(folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    for name in [*GOOD, *OWN, FAR]:
        frame = good_frame(name, 2 * TRAIN)[:TRAIN] if name in GOOD else own_frame(name)
        frame.to_parquet(folder / f"{name}.parquet")
    return [str(folder / f"{name}.parquet") for name in [*GOOD, *OWN, FAR]]


def good_records(rows: int) -> Iterator[Record]:
    tables = {name: good_frame(name, TRAIN + rows)[TRAIN:].to_dict("records") for name in GOOD}
    for row in range(rows):
        for place, (name, table) in enumerate(tables.items()):
            time_ms = START_MS + row * 1000
            body = {"series": name, "time": time_ms, "values": {k: float(v) for k, v in table[row].items()}}
            yield Record("good", place % PARTITIONS, name.encode(), json.dumps(body).encode(), time_ms)


def mixed(good: list[Record], fuzzer: Fuzzer, count: int) -> Iterator[Record]:
    """The hostile ones spread evenly over the good ones."""
    warm = WARM_UP * len(GOOD)
    yield from good[:warm]
    sent = 0
    for number, record in enumerate(good[warm:], 1):
        yield record
        due = count * number // (len(good) - warm)
        yield from fuzzer.records(due - sent)
        sent = due


def closing(judge: Judge) -> Iterator[Record]:
    """Two more readings of each hostile series on each partition that a changed byte has put it on: a single one is
    scored only after them."""
    for (partition, name), newest_ns in judge.newest(OWN):
        for number in (1, 2):
            time_ms = newest_ns // 10**6 + 1000 * number
            body = {"series": name, "time": time_ms, "values": {"a": 1.0}}
            yield Record("closing", partition, None, json.dumps(body).encode(), time_ms)


def opening(fuzzer: Fuzzer) -> Iterator[Record]:
    """Two good readings of each hostile series: the first ones set its grid."""
    for name, start_ms in [(FAR, 0), *((name, START_MS - 1000) for name in OWN)]:
        for time_ms in (start_ms, start_ms + 1000):
            body = {"series": name, "time": time_ms, "values": {"a": 1.0}}
            yield Record("opening", fuzzer.partition_of(name), None, json.dumps(body).encode(), time_ms)


def run_hostile(
    home: Path,
    kafka: str,
    influx: Influx | None,
    *,
    count: int,
    seed: int,
    good_rows: int = 400,
    scorer: str = "universal",
    drain_s: float = 600.0,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run `count` hostile records among 3 x good_rows good ones, and the good ones alone; influx None = SQLite."""
    outcome, begun = Outcome(seed), time.monotonic()
    name = f"hostile-{seed}-{uuid.uuid4().hex[:6]}"
    stores = [None if influx is None else create_bucket(influx, one) for one in (name, f"{name}-clean")]
    run = HostileRun(home / "hostile", kafka, name, stores[0], scorer)
    clean = HostileRun(home / "clean", kafka, f"{name}-clean", stores[1], scorer)
    run.call("fit", *write_histories(home / "histories"), "--step", "1s")
    good = list(good_records(good_rows))
    try:
        for one in (run, clean):
            one.create_topic(PARTITIONS)
            one.start()
        _publish(clean, good, Judge())
        judge = Judge()
        expected = _publish(run, _hostile_stream(good, count, seed, judge), judge)
        say(f"sent after {time.monotonic() - begun:.0f} s")
        for one in (clean, run):
            one.wait_until_read(drain_s)
        say(f"read after {time.monotonic() - begun:.0f} s")
        _wait_for(clean, {n: good_rows for n in GOOD})
        _wait_for(run, {n: good_rows for n in GOOD})
        _settle(run, expected)
        outcome.drained_s = round(time.monotonic() - begun, 1)
        for one in (clean, run):
            one.stop()
        outcome.crashes, outcome.good_sent = run.crashes, len(good)
        assert clean.crashes == 0, clean.log()
        _compare_good(run, clean, outcome)
        _account(run, expected, outcome)
        return outcome
    finally:
        run.close()
        clean.close()


def _hostile_stream(good: list[Record], count: int, seed: int, judge: Judge) -> Iterator[Record]:
    fuzzer = Fuzzer(random.Random(seed), OWN, FAR, PARTITIONS, {n: (i % PARTITIONS, "y") for i, n in enumerate(GOOD)})
    yield from opening(fuzzer)
    yield from mixed(good, fuzzer, count)
    yield from closing(judge)


def _publish(run: HostileRun, records: Iterable[Record], judge: Judge) -> Places:
    """Send all; the expectation for each by partition and offset, None = a good one."""
    places: Places = [[] for _ in range(PARTITIONS)]
    publisher = KafkaPublisher(run.settings)
    for record in records:
        at = record.partition
        publisher.send(run.name, record.key, record.value, record.timestamp_ms, partition=at)
        places[at].append(None if record.kind == "good" else judge.expect(record))
    publisher.close()
    return places


def _wait_for(run: HostileRun, counts: dict[str, int]) -> None:
    def there() -> bool:
        run.supervise()
        held, _ = run.contents(list(counts))
        return all(len(held[name][0]) == count for name, count in counts.items())

    assert wait_until(there, every_s=1), run.log()


def _settle(run: HostileRun, places: Places) -> None:
    """Wait until the store has everything expected, or gets no more scores for 10 s."""
    before, calm = -1, 0

    def settled() -> bool:
        nonlocal before, calm
        run.supervise()
        held, _ = run.contents([*OWN, FAR])
        now = sum(len(times) for times, _ in held.values())
        calm, before = (calm + 1 if now == before else 0), now
        return calm >= 10 or all(_held(held, one) for part in places for e in part if e for one in e.scored)

    assert wait_until(settled, timeout_s=600, every_s=1)


def _held(held: Contents, one: tuple[str, int, bool]) -> bool:
    """Whether the store has a score of the series within half a step of the time."""
    times = held[one[0]][0]
    at = int(np.searchsorted(times, one[1]))
    near = [abs(int(t) - one[1]) for t in times[max(0, at - 1) : at + 1]]
    return min(near, default=STEP_NS) <= STEP_NS // 2


def _dead_letters(run: HostileRun, outcome: Outcome) -> dict[tuple[int, int], tuple[int | None, int]]:
    """(partition, offset) -> size and checksum of the kept bytes, for every dead letter; size None = no value."""
    consumer = KafkaConsumer(bootstrap_servers=run.kafka, auto_offset_reset="earliest", consumer_timeout_ms=5000)
    place = TopicPartition(run.settings.dlq_topic, 0)
    consumer.assign([place])
    end = consumer.end_offsets([place])[place]
    found = {}
    for message in consumer:
        headers = dict(message.headers)
        outcome.by_reason[headers["error_class"].decode()] += 1
        at = int(headers["source_partition"]), int(headers["source_offset"])
        none = "value_null" in headers
        size = int(headers.get("original_size", len(message.value or b"")))
        found[at] = (None if none else size, zlib.crc32(message.value or b""))
        if message.offset + 1 >= end:
            break
    consumer.close()
    return found


def _compare_good(run: HostileRun, clean: HostileRun, outcome: Outcome) -> None:
    (held, alerts), (wanted, clean_alerts) = run.contents(GOOD), clean.contents(GOOD)
    for name in GOOD:
        assert np.array_equal(held[name][0], wanted[name][0])
        outcome.good_scores += len(held[name][0])
        outcome.good_differing += int((~np.isclose(held[name][1], wanted[name][1], rtol=1e-4, atol=0)).sum())
    outcome.good_alerts, outcome.good_alerts_differing = len(clean_alerts), len(alerts ^ clean_alerts)


def _account(run: HostileRun, places: Places, outcome: Outcome) -> None:
    held, _ = run.contents([*OWN, FAR])
    known, dead_letters = run.known(), _dead_letters(run, outcome)
    for partition, part in enumerate(places):
        for offset, one in enumerate(part):
            dead = dead_letters.get((partition, offset))
            if one is None or one.kind in ("opening", "closing"):
                problem = "not hostile, yet dead-lettered" if dead else ""
            else:
                outcome.sent += 1
                outcome.by_kind[one.kind] += 1
                problem = _problem(one, dead, held, known)
                _count(one, dead is not None, held, outcome)
            if problem:
                outcome.unaccounted += 1
                if len(outcome.examples) < EXAMPLES:
                    outcome.examples.append(f"{partition}:{offset} {one.kind if one else 'good'}: {problem}")


def _count(one: Expected, dead: bool, held: Contents, outcome: Outcome) -> None:
    there = [number for series, time_ns, number in [*one.scored, *one.maybe] if _held(held, (series, time_ns, number))]
    outcome.scored += any(there)
    outcome.masked += bool(there) and not any(there)
    outcome.waiting += bool(one.waiting) and not there and not dead
    outcome.dead_lettered += dead


def _problem(one: Expected, dead: tuple[int | None, int] | None, held: Contents, known: set[str]) -> str:
    if one.must_be_dead and dead is None:
        return "expected a dead letter, found none"
    if dead is not None and not one.may_be_dead:
        return "expected no dead letter, found one"
    if dead is not None and dead[0] != one.size:
        return f"expected a dead letter of {one.size} bytes, found {dead[0]}"
    if dead is not None and (one.size or 0) <= KEPT_BYTES and dead[1] != one.checksum:
        return "its dead letter has other bytes"
    missing = [slot for slot in one.scored if not _held(held, slot)]
    missing += [slot for slot in one.maybe if dead is None and not _held(held, slot)]
    if missing:
        return f"expected scores, found none for {missing[:3]}"
    if dead is None and not set(one.waiting) <= known:
        return f"expected the series to be known: {one.waiting[:3]}"
    if dead is None and not (one.scored or one.maybe or one.waiting):
        return "expected no outcome of it, which cannot be"
    return ""
