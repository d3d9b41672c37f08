"""Memory of a worker as users run it, with many live series: real topic, real store, a fitted profile for each series.

    make bench-live_series ARGS="[--series 1500] [--channels 38] [--hop 16] [--cgroup DIR]"

One series is fitted and its profile is copied for the others, so that nothing is shared. Every series then sends more
slots than any of the worker's rings holds, a record of 64 after the other over all series. Looked at is the worker's
resident memory once the last score is in the store, and again when what is free went back to the system: the process's
own, and pages of library files, which all workers of a machine share; and the most there was (the kernel's VmHWM).
With --cgroup the worker is put into that memory control group, whose limit then holds. What a series costs by its
channels: memory.py.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.profile_store.store import FsProfileStore

from benchmarks.lib.about import about, argument_parser, write_result
from benchmarks.lib.synthetic_load import Load
from benchmarks.speed.latency import HOP, delay_of, steps_of
from stream_ad.observability.monitor import TRIM_S
from stream_ad.ports import Scorer
from stream_ad.settings import DetectorSettings, KafkaSettings, Settings
from stream_ad.wiring import build_scorer
from tests.support.jobs import Job
from tests.support.services.influxdb import Influx, create_bucket, running_influxdb
from tests.support.services.kafka import running_kafka
from tests.support.services.process import wait_until

PARTITIONS, RECORD_ROWS = 4, 64
FIT_ROWS = 4096  # the most that a stream fills a profile with by itself
LEAST_A_SECOND = 1000


def records(load: Load, names: list[str], now_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """All series equal, each slot 1 s, the last one now."""
    channels = [f"channel-{number:02d}" for number in range(load.channels)]
    rows = load.values(0)[load.train_rows :]
    for first in range(0, load.rows, RECORD_ROWS):
        part = rows[first : first + RECORD_ROWS]
        values = dict(zip(channels, part.T.tolist(), strict=True))
        times = [now_ms - (load.rows - 1 - first - row) * 1000 for row in range(len(part))]
        for name in names:
            yield name.encode(), msgspec.json.encode({"series": name, "times": times, "values": values})


def prepared(home: Path, kafka: str, store: Influx, load: Load, names: list[str], hop: int) -> Job:
    """A job whose series all have a profile."""
    job = Job(home / "job", kafka, create_bucket(store, "live-series"), "live-series", "live-series")
    job.environment |= {"STREAM_AD__INFLUXDB__CHANNEL_DETAIL": "none", "STREAM_AD__DETECTOR__SILENCE": "120s"}
    job.environment |= {"OMP_NUM_THREADS": "1", "STREAM_AD__MODELS__URL": str(job.home / "models")}
    job.environment |= steps_of(hop)
    job.init()
    (file,) = load.write_history(home)
    job.run("fit", file, "--step", "1s", timeout_s=600)
    scorer, profiles = scorer_of(hop).name, FsProfileStore(str(job.home / "models"))
    (fitted,) = profiles.series(scorer)
    model = profiles.load(fitted, scorer)
    assert model is not None
    for name in names:
        profiles.save(replace(model, series=name), promote=True)
    return job


def scorer_of(hop: int) -> Scorer:
    return build_scorer(Settings(detector=DetectorSettings(hop_steps=hop, delay_steps=delay_of(hop))))


def measure(home: Path, series: int, channels: int, seed: int, hop: int, cgroup: Path | None) -> dict[str, Any]:
    scorer = scorer_of(hop)
    rows = scorer.lookback_steps + Settings().detector.revise_steps + 4 * scorer.hop_steps
    load = Load(1, channels, -(-rows // RECORD_ROWS) * RECORD_ROWS, FIT_ROWS, seed)
    names = [f"machine-{number:05d}" for number in range(series)]
    with running_kafka() as kafka, running_influxdb() as store:
        job = prepared(home, kafka, store, load, names, hop)
        print(f"{series} profiles; {series * load.rows} observations follow", flush=True)
        job.create_topic(PARTITIONS)
        wanted = series * (load.rows - scorer.delay_steps - scorer.hop_steps)
        try:
            started = job.worker()
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text(str(started.pid), encoding="ascii")
            publisher = KafkaPublisher(KafkaSettings(bootstrap=kafka))
            for key, value in records(load, names, int(time.time() * 1000)):
                publisher.send(job.topic, key, value)
            publisher.close()
            there = lambda: started.poll() is not None or sum(job.flux_counts().values()) >= wanted  # noqa: E731
            done = wait_until(there, timeout_s=60 + wanted / LEAST_A_SECOND, every_s=5.0)
            if not done or started.poll() is not None:
                raise SystemExit(f"not all was scored: {job.log_of(started)[-2000:]}")
            drained = memory_mb(started.pid)
            time.sleep(TRIM_S + 2)
            at_rest = memory_mb(started.pid)
            code = job.stop(started)
        finally:
            job.close()
    return {
        "series": series,
        "channels": channels,
        "scorer": scorer.name,
        "hop": hop,
        "slots_a_series": load.rows,
        "scores_at_least": wanted,
        "drained_mb": drained,
        "at_rest_mb": at_rest,
        **limits_of(cgroup),
        "exit_code": code,
    }


def memory_mb(pid: int) -> dict[str, float]:
    """As the kernel counts it, in 1,000,000 bytes."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    asked = {"resident": "VmRSS", "own": "RssAnon", "files": "RssFile", "most_resident": "VmHWM"}
    return {name: round(int(status[field].split()[0]) * 1024 / 1e6, 1) for name, field in asked.items()}


def limits_of(cgroup: Path | None) -> dict[str, Any]:
    """A control group's limit and the most charged to it, in 1,000,000 bytes; v1 and v2 name them otherwise."""
    if cgroup is None:
        return {}
    files = ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt")
    if not (cgroup / files[0]).exists():
        files = ("memory.max", "memory.peak", "memory.events")
    limit, most, reached = ((cgroup / name).read_text(encoding="ascii").strip() for name in files)
    return {"cgroup": {"limit_mb": int(limit) / 1e6, "most_mb": int(most) / 1e6, "limit_reached": reached}}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--series", type=int, default=1500)
    parser.add_argument("--channels", type=int, default=38)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hop", type=int, default=HOP, help="detector.hop_steps")
    parser.add_argument("--cgroup", type=Path, help="directory of a memory control group")
    given = parser.parse_args()
    head, begun = about(seed=given.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), given.series, given.channels, given.seed, given.hop, given.cgroup)
    print(json.dumps(result, indent=2))
    head["wall_s"] = round(time.monotonic() - begun)
    write_result(given.out, {"environment": head} | result)


if __name__ == "__main__":
    main()
