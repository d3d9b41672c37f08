"""From produce to alert: how long an anomaly waits for its record on the alerts topic, at a steady load.

A slot's score waits for `delay_steps` later slots and the end of its hop, which the settings ask for; what is beyond
that is the worker's. Series report every STEP_MS, stamped with the time they are produced at. Also read by
benchmarks/speed/throughput.py.
"""

from __future__ import annotations

import json
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kafka import KafkaConsumer

from benchmarks.lib.steady_load import Stream, produce
from tests.support.jobs import Job
from tests.support.services.influxdb import Influx, create_bucket
from tests.support.services.process import wait_until

PARTITIONS = 4
STEP_MS = 20
SECONDS = 40.0
BEGINNING_S = 10.0  # a worker that starts loads every series' profile and catches up; reported separately
HOP, DELAY, LATENESS = 16, 32, 1  # the defaults of the settings
START_S = 90.0


class Openings(threading.Thread):
    """Of each alert that opens: ns of its first slot, and of its record."""

    def __init__(self, address: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.found: list[tuple[int, int]] = []
        self.ending = threading.Event()
        self._consumer = KafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")

    def run(self) -> None:
        while not self.ending.is_set():
            for records in self._consumer.poll(timeout_ms=200).values():
                alerts = [(json.loads(record.value), record.timestamp) for record in records]
                opened = [(alert["detected"], ms) for alert, ms in alerts if alert["state"] == "open"]
                self.found += [(int(pd.Timestamp(slot).value), ms * 1_000_000) for slot, ms in opened]
        self._consumer.close()


def delay_of(hop: int) -> int:
    """The shortest that a hop allows, if not the default."""
    return max(DELAY, hop)


def steps_of(hop: int) -> dict[str, str]:
    """The settings of a hop, with a delay that it divides."""
    return {"STREAM_AD__DETECTOR__HOP_STEPS": str(hop), "STREAM_AD__DETECTOR__DELAY_STEPS": str(delay_of(hop))}


def measure_latency(
    home: Path,
    kafka: str,
    influx: Influx,
    rate: float,
    channels: int,
    seed: int,
    *,
    workers: int,
    hop: int,
    stagger: bool,
) -> dict[str, Any]:
    """Seconds from the produced slot to the alert, and without what the settings ask for: median and 99% quantile. With
    the group model."""
    series = max(1, round(rate * STEP_MS / 1000))
    stream = Stream(series, channels, series * 1000 / STEP_MS, seed)
    name = f"latency-{workers}-{hop}" + "-staggered" * stagger
    job = Job(home / name, kafka, create_bucket(influx, name), name, name, step=f"{STEP_MS}ms")
    job.environment |= {"STREAM_AD__DETECTOR__SCORER": "group", "OMP_NUM_THREADS": "1"} | steps_of(hop)
    job.environment |= {"STREAM_AD__INFLUXDB__CHANNEL_DETAIL": "none", "STREAM_AD__DETECTOR__SILENCE": "30s"}
    job.environment |= {"STREAM_AD__DETECTOR__STAGGER": str(stagger).lower()}
    job.init()
    files = stream.write_history(job.home)
    job.run("train", *files[:20], "--group", "default", "--steps", "50")
    job.run("fit", *files, "--step", job.step, timeout_s=1200)
    job.create_topic(PARTITIONS)
    crew = [job.worker() for _ in range(workers)]
    share = PARTITIONS // workers
    try:
        if not wait_until(lambda: all(job.assigned(one) >= share for one in crew), timeout_s=START_S, every_s=0.5):
            raise SystemExit(f"a worker did not start: {job.log_of(crew[0])[-2000:]}")
        return _watched(job, stream, hop) | {"series": series, "observations_per_s": round(stream.rate)}
    finally:
        job.close()


def _watched(job: Job, stream: Stream, hop: int) -> dict[str, Any]:
    context = get_context("spawn")
    late, steps = context.Queue(), round(SECONDS * 1000 / STEP_MS)
    openings = Openings(job.kafka, f"{job.namespace}.alerts")
    openings.start()
    producer = context.Process(target=produce, args=(stream, job.kafka, job.topic, steps, late))
    producer.start()
    behind_s = float(late.get(timeout=10 * SECONDS))
    producer.join()
    time.sleep(2.0)
    openings.ending.set()
    openings.join()
    if not openings.found:
        raise SystemExit(f"no alert: {job.log_of(job.workers[0])[-2000:]}")
    slots, alerted = np.array(openings.found).T
    step_ns = STEP_MS * 1_000_000
    # A slot is emitted with the window that ends `delay` slots later or more, at the end of a hop; that closes with the
    # reading after it. The grid begins with the first reading: the worst place in the hop stands for the unknown one.
    asked_ns = (delay_of(hop) + hop - 1 + LATENESS) * step_ns
    whole = (alerted - slots) / 1e9
    beyond = whole - asked_ns / 1e9
    return {
        "alerts": len(whole),
        "asked_by_settings_s": asked_ns / 1e9,
        "produce_to_alert_s": _quantiles(whole),
        "beyond_settings_s": _quantiles(beyond[slots >= slots.min() + BEGINNING_S * 1e9]),
        "beyond_settings_from_the_start_s": _quantiles(beyond),
        "producer_behind_s": round(behind_s, 3),
    }


def _quantiles(values: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"median": round(float(np.median(values)), 3), "p99": round(float(np.quantile(values, 0.99)), 3)}
