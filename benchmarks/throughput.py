"""Observations a second from a topic to the store, by a worker as users run it, on a real Kafka and a real InfluxDB.

    python benchmarks/throughput.py --out FILE.json [--seconds N] [--channels 38] [--series 20] [--seed S]

More records than a worker can take (JSON, one observation each) wait in a topic of four partitions; the profiles are
fitted, on 2048 slots. One worker process, with one thread of numerics, then drains the topic. Counted is what Flux
finds in the store, every 1.5 s for N seconds after the first scores are there. CPU seconds are those of the worker's
process alone; those of the broker and the store stand beside it. The floor is a bare aiokafka loop over the same topic:
getmany, commit, nothing else. Anything else that runs on the machine lowers all of this.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from aiokafka import AIOKafkaConsumer
from synthetic_load import Load

sys.path.insert(0, str(Path(__file__).parents[1]))

from stream_ad_connectors.kafka_publisher import KafkaPublisher

from stream_ad.settings import KafkaSettings
from tests.integration.jobs import Job
from tests.services.influxdb import Influx, create_bucket, running_influxdb
from tests.services.influxdb_build import INFLUXDB_VERSION
from tests.services.kafka import KAFKA_VERSION, create_topics, running_kafka
from tests.services.process import wait_until

PARTITIONS = 4
BACKLOG_PER_S = 9_000  # records made ahead for each second of measuring
TRAIN_ROWS, TRAIN_STEPS = 2048, 50
SAMPLE_S, SETTLE_S, START_S = 1.5, 3.0, 90.0
CASES = [(scorer, detail) for scorer in ("universal", "group") for detail in ("all", "none")]
FLOOR_RUNS = 3
TOPIC = "throughput"


@dataclass(frozen=True)
class Sample:
    """At one moment: scores in the store, CPU seconds used so far (None: another machine's, or a container's)."""

    at_s: float
    scores: int
    worker_s: float
    broker_s: float | None
    store_s: float | None


# ---- preparing


def fill_topic(address: str, load: Load) -> dict[str, float]:
    create_topics(address, TOPIC, partitions=PARTITIONS)
    publisher = KafkaPublisher(KafkaSettings(bootstrap=address))
    begun, count, size = time.monotonic(), 0, 0
    for key, value in load.records(int(time.time()) * 1000):
        publisher.send(TOPIC, key, value)
        count, size = count + 1, size + len(value)
    publisher.close()
    return {"records": count, "bytes_a_record": round(size / count), "seconds": round(time.monotonic() - begun, 1)}


def fit(base: Job, files: list[str], scorer: str) -> float:
    """Seconds it took; the group model is trained first."""
    job = Job(base.home, base.kafka, base.influx, TOPIC, base.namespace)
    job.environment["STREAM_AD__DETECTOR__SCORER"] = scorer
    begun = time.monotonic()
    if scorer == "group":
        job.run("train", *files, "--group", "default", "--steps", str(TRAIN_STEPS))
    job.run("fit", *files, "--step", "1s")
    return round(time.monotonic() - begun, 1)


def listener(address: str) -> psutil.Process | None:
    """The process that listens at an address of this machine, if it may be seen."""
    port = urlsplit(f"//{address}").port
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and getattr(found.laddr, "port", None) == port and found.pid:
            return psutil.Process(found.pid)
    return None


# ---- measuring


def cpu_s(process: psutil.Process | None) -> float | None:
    if process is None:
        return None
    times = process.cpu_times()
    return float(times.user + times.system)


def drain(base: Job, store: Influx, scorer: str, detail: str, seconds: float, load: Load) -> dict[str, Any]:
    """One worker over the topic from its beginning, into a bucket of its own."""
    name = f"{scorer}-{detail}-{uuid.uuid4().hex[:6]}"
    job = Job(base.home, base.kafka, create_bucket(store, name), TOPIC, name)
    job.environment |= {
        "STREAM_AD__DETECTOR__SCORER": scorer,
        "STREAM_AD__DETECTOR__SILENCE": "60s",
        "STREAM_AD__INFLUXDB__BUCKET": name,
        "STREAM_AD__INFLUXDB__CHANNEL_DETAIL": detail,
    }
    others = listener(base.kafka), listener(urlsplit(store.url).netloc)
    worker = job.worker()
    try:
        begun = time.monotonic()
        if not wait_until(lambda: bool(job.flux_counts()) or worker.poll() is not None, timeout_s=START_S, every_s=0.5):
            raise SystemExit(f"no scores within {START_S:g} s: {job.log_of(worker)[-2000:]}")
        first_s = time.monotonic() - begun
        time.sleep(SETTLE_S)
        samples = list(sampled(job, psutil.Process(worker.pid), others, seconds, load))
        memory = psutil.Process(worker.pid).memory_info().rss
        code = job.stop(worker)
    finally:
        job.close()
    if code != 0:
        raise SystemExit(f"the worker ended with {code}: {job.log_of(worker)[-2000:]}")
    return summary(samples) | {
        "scorer": scorer,
        "channel_detail": detail,
        "first_scores_after_s": round(first_s, 1),
        "worker_rss_mib": round(memory / 2**20),
        "samples": [asdict(sample) for sample in samples],
    }


def sampled(
    job: Job, worker: psutil.Process, others: tuple[psutil.Process | None, ...], seconds: float, load: Load
) -> Iterator[Sample]:
    """Until the time is over or the topic all but empty; a sample's time is the middle of its query."""
    broker, store = others
    begun = time.monotonic()
    while time.monotonic() - begun < seconds + SAMPLE_S:
        asked = time.monotonic()
        scores = sum(job.flux_counts().values())
        if scores > 0.97 * load.series * load.rows:
            return
        used = cpu_s(worker)
        assert used is not None
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


async def bare_loop(address: str, records: int) -> dict[str, float]:
    """aiokafka alone: getmany and one commit for each batch, to the topic's end."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=address,
        group_id=f"floor-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=10_000,
    )
    await consumer.start()
    try:
        taken = sum(map(len, (await consumer.getmany(timeout_ms=30_000)).values()))
        already, begun, used = taken, time.monotonic(), time.process_time()
        while taken < records:
            taken += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
            await consumer.commit()
        done, wall_s = taken - already, time.monotonic() - begun
        return {"per_s": done / wall_s, "cpu_s_per_million": (time.process_time() - used) / done * 1e6}
    finally:
        await consumer.stop()


def floor(address: str, records: int) -> dict[str, Any]:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a group's first request finds no coordinator yet
    runs = [asyncio.run(bare_loop(address, records)) for _ in range(FLOOR_RUNS)]
    return {
        "observations_per_s": round(statistics.median(run["per_s"] for run in runs)),
        "worker_cpu_s_per_million": round(statistics.median(run["cpu_s_per_million"] for run in runs), 1),
        "runs": runs,
    }


# ---- telling


def environment(load: Load) -> dict[str, Any]:
    packages = ("stream-ad", "torch", "numpy", "aiokafka", "faust-streaming", "influxdb-client", "msgspec")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages} | {"kafka": KAFKA_VERSION, "influxdb": INFLUXDB_VERSION},
        "load": asdict(load) | {"partitions": PARTITIONS, "group_steps": TRAIN_STEPS},
    }


def print_table(cases: list[dict[str, Any]], bottom: dict[str, Any]) -> None:
    print(
        f"\n{'':<24}{'obs/s':>9}{'median':>9}{'cores':>7}{'CPU s per million obs: worker':>31}{'broker':>8}{'store':>8}"
    )
    for case in cases:
        others = [case[f"{who}_cpu_s_per_million"] for who in ("broker", "store")]
        told = ["-" if value is None else f"{value:.0f}" for value in others]
        print(
            f"{case['scorer'] + ', detail ' + case['channel_detail']:<24}{case['observations_per_s']:>9}"
            f"{case['median_part_per_s']:>9}{case['worker_cores']:>7}{case['worker_cpu_s_per_million']:>31.0f}"
            f"{told[0]:>8}{told[1]:>8}"
        )
    print(f"{'bare aiokafka loop':<24}{bottom['observations_per_s']:>9}{bottom['worker_cpu_s_per_million']:>47.1f}")


def measure(load: Load, seconds: float, home: Path) -> dict[str, Any]:
    with running_kafka() as kafka, running_influxdb() as store:
        base = Job(home, kafka, store, TOPIC, "throughput")
        base.init()
        files = load.write_history(home)
        with ThreadPoolExecutor(2) as threads:
            fits = {scorer: threads.submit(fit, base, files, scorer) for scorer in ("universal", "group")}
            sent = fill_topic(kafka, load)
            prepared = {scorer: future.result() for scorer, future in fits.items()}
        print(f"ready: {sent}, fitted in {prepared} s", flush=True)
        bottom = floor(kafka, int(sent["records"]))
        cases = []
        for scorer, detail in CASES:
            cases.append(drain(base, store, scorer, detail, seconds, load))
            told = {key: value for key, value in cases[-1].items() if key != "samples"}
            print(json.dumps(told), flush=True)
    return {"sent": sent, "prepared_s": prepared, "floor": bottom, "cases": cases}


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of a worker, from a topic to the store.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--channels", type=int, default=38)
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = int((given.seconds + 2 * SETTLE_S) * BACKLOG_PER_S / given.series)
    load = Load(given.series, given.channels, rows, TRAIN_ROWS, given.seed)
    about = environment(load)
    print(json.dumps(about, indent=2), flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(load, given.seconds, Path(folder))
    print_table(result["cases"], result["floor"])
    about |= {"load_after": os.getloadavg()[0], "wall_s": round(time.monotonic() - begun)}
    print(f"\nseed {given.seed}, {about['wall_s']} s in all")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"environment": about} | result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
