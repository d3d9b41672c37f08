"""One worker at a steady load for long: do memory, lag and latency stay flat?

    make bench-soak ARGS="[--minutes 60] [--rate 2000] [--series 200] [--channels 38] [--seed S] [--scorer universal]
        [--detail none]"

A producer in a separate process sends `rate` observations a second (JSON, one a record; one per series in every step of
series / rate seconds, stamped with the time they are made at) through a real Kafka to a worker as users run it, and a
real InfluxDB. Every 50 steps a tenth of one series' channels, at least one, jump for 8 steps, and an alert is awaited.
Sampled every 10 s: resident memory, CPU seconds, the group's lag (records not committed: up to 5 s of them are only
not committed yet), how old the newest score of one series is; and of each alert, the time from its first slot to its
record on the alerts topic. The settings ask for `delay + hop` steps of that age and latency. Flat: Theil-Sen slopes an
hour, and the medians of the first and the last third. In the end every slot has to be in the store. A plot goes
next to FILE.json.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import psutil
from influxdb_client.client.influxdb_client import InfluxDBClient
from scipy.stats import theilslopes
from stream_ad_connectors.kafka.admin import KafkaAdmin

from benchmarks.lib.about import about, argument_parser
from benchmarks.lib.processes import cpu_s, listener
from benchmarks.lib.steady_load import JUMP_EVERY, Stream, produce
from benchmarks.speed.latency import Openings
from stream_ad.settings import KafkaSettings
from tests.support.jobs import Job
from tests.support.services.influxdb import running_influxdb
from tests.support.services.kafka import running_kafka
from tests.support.services.process import wait_until

TOPIC, PARTITIONS = "soak", 4
SAMPLE_S, WARM_S, START_S = 10.0, 60.0, 90.0
FIGURES = {
    "worker_mib": "worker's memory, MiB",
    "lag": "records not committed",
    "age_s": "age of the newest score, s",
    "alert_s": "slot to alert, s",
}


# ---- sampling


class Sampler:
    def __init__(self, job: Job, worker: psutil.Process, series: str) -> None:
        self._job, self._worker, self._series = job, worker, series
        self._others = [listener(job.kafka), listener(urlsplit(job.influx.url).netloc)]
        self._admin = KafkaAdmin(KafkaSettings(bootstrap=job.kafka, group=job.namespace))
        self._client = InfluxDBClient(job.influx.url, job.influx.token, org=job.influx.org)

    def sample(self, begun: float) -> dict[str, float | None]:
        broker, store = self._others
        return {
            "at_s": round(time.time() - begun, 1),
            "worker_mib": round(self._worker.memory_info().rss / 2**20, 1),
            "broker_mib": round(broker.memory_info().rss / 2**20, 1) if broker else None,
            "store_mib": round(store.memory_info().rss / 2**20, 1) if store else None,
            "worker_cpu_s": cpu_s(self._worker),
            "lag": self._lag(),
            "age_s": self._age_s(),
        }

    def close(self) -> None:
        self._admin.close()
        self._client.close()  # type: ignore[no-untyped-call]

    def _lag(self) -> int:
        return sum(each.lag for each in self._admin.lag([TOPIC]))

    def _age_s(self) -> float | None:
        query = f"""from(bucket: "{self._job.influx.bucket}") |> range(start: -2m)
          |> filter(fn: (r) => r._measurement == "score" and r.series == "{self._series}" and r._field == "score")
          |> group() |> max(column: "_time")"""
        tables: Any = self._client.query_api().query(query)
        times = [record.get_time() for table in tables for record in table.records]
        return round(time.time() - times[0].timestamp(), 2) if times else None


# ---- reporting


def summary(samples: list[dict[str, Any]], alerts: list[dict[str, float]]) -> dict[str, Any]:
    """Of each figure: median, 99% quantile, slope an hour with its 95% interval, medians of the first and last third;
    the first minute, in which windows fill, is left out."""
    out: dict[str, Any] = {}
    for name in FIGURES:
        source = alerts if name == "alert_s" else samples
        found = [(s["at_s"] / 3600, s[name]) for s in source if s[name] is not None and s["at_s"] > WARM_S]
        if len(found) < 6:
            continue
        at, values = np.array(found).T
        slope, _, low, high = theilslopes(values, at)
        third = len(values) // 3
        out[name] = {
            "median": float(np.median(values)),
            "p99": float(np.quantile(values, 0.99)),
            "slope_an_hour": [float(each) for each in (slope, low, high)],
            "first_third": float(np.median(values[:third])),
            "last_third": float(np.median(values[-third:])),
        }
    return out


def show(found: dict[str, Any]) -> None:
    print(f"\n{'':30s}{'median':>9s}{'p99':>9s}{'first third':>13s}{'last third':>12s}{'an hour':>10s}")
    for name, each in found.items():
        print(
            f"{FIGURES[name]:30s}{each['median']:9.2f}{each['p99']:9.2f}{each['first_third']:13.2f}"
            f"{each['last_third']:12.2f}{each['slope_an_hour'][0]:+10.2f}"
        )


def plot(samples: list[dict[str, Any]], alerts: list[dict[str, float]], path: Path) -> None:
    figure, axes = plt.subplots(len(FIGURES), 1, figsize=(8, 9), sharex=True, layout="constrained")
    for axis, (name, title) in zip(axes, FIGURES.items(), strict=True):
        source = alerts if name == "alert_s" else samples
        found = [(s["at_s"] / 60, s[name]) for s in source if s[name] is not None]
        axis.plot(*(np.array(found).T if found else ([], [])), ".", markersize=2)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=110)
    plt.close(figure)


# ---- running


def soak(job: Job, stream: Stream, minutes: float) -> dict[str, Any]:
    steps = round(minutes * 60_000 / stream.step_ms)
    results = get_context("spawn").Queue()
    worker = job.worker()
    if not wait_until(lambda: job.assigned(worker) == PARTITIONS, timeout_s=START_S, every_s=0.2):
        raise SystemExit(f"the worker took over no partition within {START_S:g} s: {job.log_of(worker)[-2000:]}")
    alerts = Openings(job.kafka, f"{job.namespace}.alerts")
    producer = get_context("spawn").Process(target=produce, args=(stream, job.kafka, TOPIC, steps, results))
    sampler, samples = Sampler(job, psutil.Process(worker.pid), stream.names[0]), list[dict[str, Any]]()
    begun = time.time()
    producer.start()
    alerts.start()
    try:
        while producer.is_alive():
            producer.join(SAMPLE_S)
            if worker.poll() is not None:
                raise SystemExit(f"the worker ended with {worker.returncode}: {job.log_of(worker)[-2000:]}")
            samples.append(sampler.sample(begun))
            if len(samples) % 6 == 0:
                print(json.dumps(samples[-1]), flush=True)
        if producer.exitcode != 0:
            raise SystemExit(f"the producer ended with {producer.exitcode}")
        job.wait_for_scores(dict.fromkeys(stream.names, steps), timeout_s=120)
        code = job.stop(worker)
    finally:
        producer.kill()
        alerts.ending.set()
        alerts.join()
        sampler.close()
        job.close()
    alert_delays = [{"at_s": at / 1e9 - begun, "alert_s": round((at - slot) / 1e9, 3)} for slot, at in alerts.found]
    return {
        "steps": steps,
        "step_ms": stream.step_ms,
        "observations": steps * stream.series,
        "all_scored": True,
        "exit": code,
        "leaps": (steps - 1) // JUMP_EVERY,
        "alerts": len(alert_delays),
        "producer_late_s": round(results.get(timeout=10), 2),
        "worker_cores": round(statistics.median(_cores(samples)), 2),
        "summary": summary(samples, alert_delays),
        "samples": samples,
        "told": alert_delays,
    }


def _cores(samples: list[dict[str, Any]]) -> list[float]:
    return [(b["worker_cpu_s"] - a["worker_cpu_s"]) / (b["at_s"] - a["at_s"]) for a, b in pairwise(samples)]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--channels", type=int, default=38)
    parser.add_argument("--scorer", default="universal")
    parser.add_argument("--detail", choices=("all", "none"), default="none")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stream = Stream(given.series, given.channels, given.rate, given.seed)
    environment = about(load=asdict(stream), scorer=given.scorer, detail=given.detail, minutes=given.minutes)
    print(json.dumps(environment), flush=True)
    with tempfile.TemporaryDirectory() as folder, running_kafka() as kafka, running_influxdb() as store:
        job = Job(Path(folder), kafka, store, TOPIC, "soak", step=f"{stream.step_ms}ms")
        job.environment |= {
            "STREAM_AD__DETECTOR__SCORER": given.scorer,
            "STREAM_AD__INFLUXDB__CHANNEL_DETAIL": given.detail,
        }
        job.create_topic(PARTITIONS)
        job.init()
        job.run("fit", *stream.write_history(Path(folder)), "--step", job.step, timeout_s=1200)
        result = soak(job, stream, given.minutes)
    environment["load_after"] = os.getloadavg()[0]
    show(result["summary"])
    plot(result["samples"], result["told"], given.out.with_suffix(".png"))
    given.out.write_text(json.dumps({"environment": environment} | result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
