"""Faults against running workers, then the store against an undisturbed run: what the tests and the benchmark share."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from stream_ad_connectors.kafka_publisher import KafkaPublisher

from stream_ad.errors import UnavailableError
from stream_ad.settings import KafkaSettings
from tests.integration.jobs import START, START_NS, STEP_NS, Job, write_plant
from tests.services.influxdb import InfluxServer
from tests.services.kafka import KafkaServer
from tests.services.process import wait_until

TRAIN = 2000
WORKERS = 2
RECOVERY_S = 120.0


@dataclass
class Outcome:
    """lost, duplicate and differing count slots; a slot differs from 1e-4 relative on. recovery_s: per fault, from its
    end to the first new score in the store."""

    seed: int
    faults: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    slots: int = 0
    lost: int = 0
    duplicate: int = 0
    differing: int = 0
    alerts: int = 0
    alerts_lost: int = 0
    alerts_doubled: int = 0
    recovery_s: list[float] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicate or self.differing or self.alerts_lost or self.alerts_doubled)

    def as_json(self) -> dict[str, object]:
        rounded = [round(s, 2) for s in self.recovery_s]
        median = round(float(np.median(rounded)), 2) if rounded else None
        shown = {k: v for k, v in vars(self).items() if k not in ("recovery_s", "by_kind")}
        return {**shown, "by_kind": dict(self.by_kind), "recovery_s": rounded, "recovery_median_s": median}


@dataclass
class Drill:
    """One job of two workers, fed a stretch of rows before each fault."""

    job: Job
    broker: KafkaServer
    store: InfluxServer
    rng: random.Random
    pause_s: float = 9.0

    @property
    def kinds(self) -> Mapping[str, Callable[[], None]]:
        return {
            "kill": self._kill,
            "terminate": self._terminate,
            "suspend": self._suspend,
            "broker restart": self._broker,
            "store stopped": self._store_stopped,
            "store silent": self._store_silent,
            "worker joins": self._join,
        }

    def _running(self) -> list[int]:
        return [i for i, worker in enumerate(self.job.workers) if worker.poll() is None]

    def _any(self) -> int:
        return self.rng.choice(self._running())

    def _kill(self) -> None:
        victim = self.job.workers[self._any()]
        victim.kill()
        victim.wait(30)
        self.job.worker()

    def _terminate(self) -> None:
        self.job.stop(self.job.workers[self._any()])
        self.job.worker()

    def _suspend(self) -> None:
        """Longer than the group waits for a silent member."""
        victim = self.job.workers[self._any()]
        victim.send_signal(signal.SIGSTOP)
        time.sleep(self.pause_s)
        victim.send_signal(signal.SIGCONT)

    def _broker(self) -> None:
        self.broker.stop()
        time.sleep(self.rng.uniform(0.5, 3))
        self.broker.start()

    def _store_stopped(self) -> None:
        self.store.stop()
        time.sleep(self.rng.uniform(0.5, 4))
        self.store.start()

    def _store_silent(self) -> None:
        self.store.pause()
        time.sleep(self.rng.uniform(1, self.pause_s))
        self.store.resume()

    def _join(self) -> None:
        self.job.worker()
        if len(self._running()) > WORKERS + 1:
            self.job.stop(self.job.workers[self._running()[0]])


def run_drill(
    home: Path,
    broker: KafkaServer,
    store: InfluxServer,
    *,
    faults: int,
    seed: int,
    rows_per_fault: int = 300,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """A seeded schedule of `faults` against two workers; every kind comes before one comes again."""
    rng = random.Random(seed)
    rows = rows_per_fault * (faults + 1)
    series = write_plant(home / "data", TRAIN, rows, seed=seed)
    job = Job(home / "job", broker.address, store.influx, f"drill-{seed}", f"drill-{seed}", supervised=True)
    job.init()
    outcome = Outcome(seed, faults)
    try:
        job.run("fit", *[str(home / "data" / "PLANT" / f"{name}.train.parquet") for name in series])
        job.create_topic(4)
        for _ in range(WORKERS):
            job.worker()
        drill = Drill(job, broker, store, rng)
        schedule: list[str] = []
        while len(schedule) < faults:
            schedule += rng.sample(list(drill.kinds), len(drill.kinds))
        for number, kind in enumerate(schedule[:faults]):
            job.supervise()
            _feed(job, home / "data", series, number * rows_per_fault, rows_per_fault)
            time.sleep(rng.uniform(0, 1.5))
            say(f"{number + 1}/{faults} {kind}")
            drill.kinds[kind]()
            outcome.by_kind[kind] += 1
            outcome.recovery_s.append(_recovered(job))
        _feed(job, home / "data", series, faults * rows_per_fault, rows_per_fault)
        job.wait_for_scores(dict.fromkeys(series, rows), timeout_s=RECOVERY_S)
        _compare(job, home / "data", series, outcome)
        return outcome
    finally:
        job.close()


def _feed(job: Job, data: Path, series: list[str], first: int, count: int) -> None:
    """Sends a stretch of rows; from its start again while the broker is only just back (same rows change nothing)."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        try:
            return _publish(job, data, series, first, count)
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _publish(job: Job, data: Path, series: list[str], first: int, count: int) -> None:
    publisher = KafkaPublisher(KafkaSettings(bootstrap=job.kafka))
    frames = {name: pd.read_parquet(data / "PLANT" / f"{name}.test.parquet")[first : first + count] for name in series}
    for row in range(count):
        for name, frame in frames.items():
            values = {c: None if np.isnan(v) else float(v) for c, v in frame.iloc[row].items()}
            time_ms = (START_NS + (first + row) * STEP_NS) // 1_000_000
            body = {"series": name, "time": time_ms, "values": values}
            publisher.send(job.topic, name.encode(), json.dumps(body).encode())
    publisher.flush()
    publisher.close()


def _recovered(job: Job) -> float:
    """Seconds until the store holds a new score, or all there is to hold for now."""
    begun = time.monotonic()
    before = sum(job.flux_counts().values())
    calm = 0

    def moved() -> bool:
        nonlocal calm
        calm += 1
        job.supervise()
        return sum(job.flux_counts().values()) > before or calm > 60

    wait_until(moved, timeout_s=RECOVERY_S, every_s=0.25)
    return time.monotonic() - begun


def _compare(job: Job, data: Path, series: list[str], outcome: Outcome) -> None:
    undisturbed = job.backtest(data)
    wanted: set[tuple[str, int]] = set()  # ids hash the start, and a backtest's rows begin at time 0
    for name in series:
        expected, told = undisturbed[name], job.scores(name)
        times = START_NS + STEP_NS * np.arange(len(expected))
        outcome.slots += len(expected)
        outcome.lost += len(set(times.tolist()) - set(told["time_ns"].tolist()))
        outcome.duplicate += len(told) - told["time_ns"].nunique()
        held = told.drop_duplicates("time_ns").set_index("time_ns")["score"].reindex(times).to_numpy()
        outcome.differing += int((~np.isclose(held, expected["score"], rtol=1e-4, atol=0) & ~np.isnan(held)).sum())
        firsts = expected.reset_index().query("alert_id != ''").groupby("alert_id")["index"].min()
        wanted |= {(name, START_NS + STEP_NS * int(row)) for row in firsts}
    found = [(alert["series"], alert["start_ns"]) for alert in job.json("alerts", "--start", START)]
    outcome.alerts = len(wanted)
    outcome.alerts_lost = len(wanted - set(found))
    outcome.alerts_doubled = len(found) - len(wanted & set(found))
