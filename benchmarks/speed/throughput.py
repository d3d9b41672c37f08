"""Observations a second from a topic to the store, by workers as users run them, on a real Kafka and a real InfluxDB.

    make bench-throughput ARGS="[--seconds N] [--channels 38] [--series 20] [--seed S] [--only TEXT]"

More observations than the workers can take wait in two topics of four partitions, each with as many series: JSON, one a
record, and columns of 50 a record; the profiles are fitted, on 2048 slots. Workers, each with one thread of numerics,
then drain a topic. Counted is what Flux finds in the store, every 1.5 s for N seconds after the first scores are there.
CPU seconds are those of the workers' processes alone; those of the broker and the store are listed separately. Also
measured, over the same topic and in the same run: a bare aiokafka loop, the CPU of each stage, the path under a
kafka-python loop and as a faust agent that handles record by record (rivals.py); last, the time from produce to alert
at 10,000 observations/s (latency.py). Other load on the machine lowers all of this, the CPU seconds least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from stream_ad_connectors.kafka.publisher import KafkaPublisher

from benchmarks.lib.about import about, argument_parser, write_result
from benchmarks.lib.processes import cpu_s, listener
from benchmarks.lib.synthetic_load import Load
from benchmarks.speed.latency import HOP, measure_latency, steps_of
from benchmarks.speed.rivals import KINDS
from stream_ad.settings import KafkaSettings
from tests.support.jobs import Job
from tests.support.services.influxdb import Influx, create_bucket, running_influxdb
from tests.support.services.kafka import create_topics, running_kafka
from tests.support.services.process import wait_until

PARTITIONS = 4
BACKLOG_PER_S = {"single": 40_000, "columns": 100_000}  # observations made ahead for each second of measuring
COLUMN_ROWS = 50
TRAIN_ROWS, TRAIN_STEPS = 2048, 50
SAMPLE_S, SETTLE_S, START_S, FIT_S = 1.5, 3.0, 90.0, 1200.0
TOPICS = {"single": "throughput", "columns": "throughput-columns"}


@dataclass(frozen=True)
class Case:
    """detail: influxdb.channel_detail; form: observations one a record, or in columns; hop: detector.hop_steps;
    stagger: detector.stagger, which a backlog does not feel."""

    scorer: str
    detail: str
    form: str
    workers: int = 1
    hop: int = HOP
    stagger: bool = False

    @property
    def key(self) -> str:
        hop = f"hop {self.hop}, " * (self.hop != HOP) + "staggered, " * self.stagger
        return f"{self.scorer}, {hop}detail {self.detail}, {self.form}, {self.workers} worker{'s' * (self.workers > 1)}"


CASES = [
    *(Case(s, d, f) for s in ("universal", "group") for d in ("none", "all") for f in ("single", "columns")),
    Case("group", "none", "single", 2),
    Case("group", "none", "columns", 2),
    *(Case("group", "none", form, workers, 64) for form in ("single", "columns") for workers in (1, 2)),
]
LATENCY_CASES = [
    Case("group", "none", "single", workers, hop, stagger)
    for workers, hop, stagger in ((2, HOP, False), (2, HOP, True), (1, 64, False), (1, 64, True), (2, 64, True))
]
LATENCY_RATE = 10_000.0  # half of the load that the targets name


@dataclass(frozen=True)
class Sample:
    """At one moment: scores in the store, CPU seconds used so far (None: another machine's, or a container's)."""

    at_s: float
    scores: int
    worker_s: float
    broker_s: float | None
    store_s: float | None


# ---- preparing


def fill_topics(address: str, loads: Mapping[str, Load]) -> dict[str, Any]:
    """The series go round the partitions: left to their hashes, a worker would run out of records before the others."""
    found, now_ms = {}, int(time.time()) * 1000
    for form, load in loads.items():
        topic = TOPICS[form]
        create_topics(address, topic, partitions=PARTITIONS)
        publisher = KafkaPublisher(KafkaSettings(bootstrap=address))
        begun, count, size = time.monotonic(), 0, 0
        for key, value in load.records(now_ms) if form == "single" else load.columns(now_ms, COLUMN_ROWS):
            publisher.send(topic, key, value, partition=count % load.series % PARTITIONS)
            count, size = count + 1, size + len(value)
        publisher.close()
        spent_s = round(time.monotonic() - begun, 1)
        found[form] = {"records": count, "bytes_an_observation": round(size / load.observations), "seconds": spent_s}
    return found


def fit(base: Job, files: list[str], scorer: str, hop: int) -> float:
    """Seconds it took; the group model is trained first."""
    job = job_of(base, Case(scorer, "none", "single", hop=hop), base.influx)
    begun = time.monotonic()
    if scorer == "group":
        job.run("train", *files, "--group", "default", "--steps", str(TRAIN_STEPS), timeout_s=FIT_S)
    job.run("fit", *files, "--step", "1s", timeout_s=FIT_S)
    return round(time.monotonic() - begun, 1)


def job_of(base: Job, case: Case, influx: Influx) -> Job:
    """A job over the case's topic, with a separate group and bucket, in a directory that shares the models."""
    name = f"{case.scorer}-{uuid.uuid4().hex[:8]}"
    job = Job(base.home / name, base.kafka, influx, TOPICS[case.form], name)
    job.init()
    job.environment |= {
        "STREAM_AD__MODELS__URL": str(base.home / f"models-{case.hop}"),
        "STREAM_AD__DETECTOR__SCORER": case.scorer,
        "STREAM_AD__DETECTOR__SILENCE": "60s",
        "STREAM_AD__INFLUXDB__CHANNEL_DETAIL": case.detail,
        "OMP_NUM_THREADS": "1",
    }
    job.environment |= steps_of(case.hop)
    return job


# ---- measuring


def drain(base: Job, store: Influx, case: Case, seconds: float, load: Load) -> dict[str, Any]:
    """Workers over the topic from its beginning, into a separate bucket."""
    job = job_of(base, case, create_bucket(store, f"{case.scorer}-{uuid.uuid4().hex[:6]}"))
    others = listener(base.kafka), listener(urlsplit(store.url).netloc)
    workers = [job.worker() for _ in range(case.workers)]
    try:
        begun = time.monotonic()

        def ended() -> bool:
            return any(worker.poll() is not None for worker in workers)

        if not wait_until(lambda: bool(job.flux_counts()) or ended(), timeout_s=START_S, every_s=0.5):
            raise SystemExit(f"no scores within {START_S:g} s: {job.log_of(workers[0])[-2000:]}")
        first_s = time.monotonic() - begun
        wait_until(lambda: ended() or all(job.assigned(worker) for worker in workers), timeout_s=START_S, every_s=0.2)
        time.sleep(SETTLE_S)
        processes = [psutil.Process(worker.pid) for worker in workers]
        samples = list(sampled(job, processes, others, seconds, load))
        memory = max(process.memory_info().rss for process in processes)
        codes = {job.stop(worker) for worker in workers}
    finally:
        job.close()
    if codes != {0}:
        raise SystemExit(f"a worker ended with {codes}: {job.log_of(workers[0])[-2000:]}")
    return (
        {"case": case.key}
        | asdict(case)
        | summary(samples)
        | {
            "first_scores_after_s": round(first_s, 1),
            "worker_rss_mib": round(memory / 2**20),
            "samples": [asdict(sample) for sample in samples],
        }
    )


def sampled(
    job: Job, workers: list[psutil.Process], others: tuple[psutil.Process | None, ...], seconds: float, load: Load
) -> Iterator[Sample]:
    """Until the time is over or the topic all but empty; a sample's time is the middle of its query."""
    broker, store = others
    begun = time.monotonic()
    while time.monotonic() - begun < seconds + SAMPLE_S:
        asked = time.monotonic()
        scores = sum(job.flux_counts().values())
        if scores > 0.97 * load.observations:
            return
        used = sum(cpu_s(worker) or 0.0 for worker in workers)
        yield Sample((asked + time.monotonic()) / 2, scores, used, cpu_s(broker), cpu_s(store))
        time.sleep(max(0.0, asked + SAMPLE_S - time.monotonic()))


def summary(samples: list[Sample]) -> dict[str, Any]:
    """Rates over the whole time; the median over its parts shows how even it was."""
    if len(samples) < 3:
        raise SystemExit("the topic was empty too soon: give more --seconds, they make more records")
    first, last = samples[0], samples[-1]
    done, wall_s = last.scores - first.scores, last.at_s - first.at_s
    parts = [(b.scores - a.scores) / (b.at_s - a.at_s) for a, b in pairwise(samples)]

    def per_million(before: float | None, after: float | None) -> float | None:
        return None if before is None or after is None else round((after - before) / done * 1e6, 1)

    return {
        "seconds": round(wall_s, 1),
        "observations": done,
        "observations_per_s": round(done / wall_s),
        "median_part_per_s": round(statistics.median(parts)),
        "worker_cpu_s_per_million": per_million(first.worker_s, last.worker_s),
        "worker_cores": round((last.worker_s - first.worker_s) / wall_s, 2),
        "broker_cpu_s_per_million": per_million(first.broker_s, last.broker_s),
        "store_cpu_s_per_million": per_million(first.store_s, last.store_s),
    }


def rival(base: Job, store: Influx, kind: str, seconds: float) -> dict[str, Any]:
    """The group model on single observations without detail under another loop; see rivals.py."""
    job = job_of(base, Case("group", "none", "single"), create_bucket(store, f"rival-{uuid.uuid4().hex[:6]}"))
    root = str(Path(__file__).parents[2])
    script = f"import sys; sys.path.insert(0, {root!r}); from benchmarks.speed.rivals import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, kind, "--seconds", str(seconds)],
        cwd=job.home,
        env=job.env,
        capture_output=True,
        text=True,
        timeout=START_S + 10 * seconds,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{kind}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


# ---- reporting


def print_table(cases: list[dict[str, Any]], rivals: dict[str, dict[str, Any]]) -> None:
    print(f"\n{'':<44}{'obs/s':>9}{'median':>9}{'cores':>7}{'CPU s per million: worker':>27}{'broker':>8}{'store':>8}")
    for case in cases:
        others = [case[f"{who}_cpu_s_per_million"] for who in ("broker", "store")]
        cells = ["-" if value is None else f"{value:.0f}" for value in others]
        print(
            f"{case['case']:<44}{case['observations_per_s']:>9}{case['median_part_per_s']:>9}{case['worker_cores']:>7}"
            f"{case['worker_cpu_s_per_million']:>27.0f}{cells[0]:>8}{cells[1]:>8}"
        )
    for kind, found in rivals.items():
        print(f"{kind:<44}{json.dumps(found)}")


def measure(loads: Mapping[str, Load], given: argparse.Namespace, home: Path) -> dict[str, Any]:
    wanted = [case for case in CASES if given.only in case.key]
    load = next(iter(loads.values()))
    with running_kafka() as kafka, running_influxdb() as store:
        base = Job(home, kafka, store, TOPICS["single"], "throughput")
        files = load.write_history(home)
        with ThreadPoolExecutor(2) as threads:
            needed = sorted({(case.scorer, case.hop) for case in wanted})  # the rivals' is among all of them
            fits = {key: threads.submit(fit, base, files, *key) for key in needed}
            sent = fill_topics(kafka, loads)
            prepared = {f"{scorer}, hop {hop}": future.result() for (scorer, hop), future in fits.items()}
        print(f"ready: {sent}, fitted in {prepared} s", flush=True)
        rivals = {}
        for kind in KINDS if not given.only else ():
            rivals[kind] = rival(base, store, kind, given.seconds)
            print(kind, json.dumps(rivals[kind]), flush=True)
        cases = []
        for case in wanted:
            cases.append(drain(base, store, case, given.seconds, loads[case.form]))
            print(json.dumps({key: value for key, value in cases[-1].items() if key != "samples"}), flush=True)
        latency: dict[str, Any] = {}
        for case in LATENCY_CASES:
            if given.only in replace(case, stagger=False).key:
                stream = (LATENCY_RATE, load.channels, load.seed)
                measured = measure_latency(
                    home, kafka, store, *stream, workers=case.workers, hop=case.hop, stagger=case.stagger
                )
                latency[case.key] = measured
                print("latency", case.key, json.dumps(measured), flush=True)
    return {"sent": sent, "prepared_s": prepared, "rivals": rivals, "cases": cases, "latency": latency}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--channels", type=int, default=38)
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    given = parser.parse_args()
    ahead_s = given.seconds + 2 * SETTLE_S
    loads = {
        form: Load(given.series, given.channels, int(ahead_s * pace / given.series), TRAIN_ROWS, given.seed)
        for form, pace in BACKLOG_PER_S.items()
        if not given.only or any(given.only in case.key and case.form == form for case in CASES)
    }
    shared = {"partitions": PARTITIONS, "group_steps": TRAIN_STEPS, "rows": COLUMN_ROWS}
    head = about(load={form: asdict(load) for form, load in loads.items()} | shared)
    print(json.dumps(head, indent=2), flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(loads, given, Path(folder))
    print_table(result["cases"], result["rivals"])
    head |= {"load_after": os.getloadavg()[0], "wall_s": round(time.monotonic() - begun)}
    print(f"\nseed {given.seed}, {head['wall_s']} s in all")
    write_result(given.out, {"environment": head} | result)


if __name__ == "__main__":
    main()
