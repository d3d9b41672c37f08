"""A user's job on real parts, run by the console script as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from influxdb_client.client.influxdb_client import InfluxDBClient

from stream_ad.demo.plant import Plant
from tests.support.services.influxdb import Influx
from tests.support.services.kafka import create_topics
from tests.support.services.process import PATIENCE_S, wait_until

START = "2026-01-01T00:00:00Z"
START_NS = int(pd.Timestamp(START).value)
STEP_NS = 1_000_000_000
STREAM_AD = str(Path(sys.executable).with_name("stream-ad"))


def write_plant(data: Path, train: int, test: int, seed: int = 5) -> list[str]:
    """<data>/PLANT/<series>.train|test.parquet of a simulated plant with faults; returns the series."""
    plant = Plant.live(seed, test, max(1, test // 300), past_slots=train)
    folder = data / "PLANT"
    folder.mkdir(parents=True)
    names = []
    for name in plant.series:
        series = name.replace("/", "-")
        names.append(series)
        for part, first, rows in (("train", -train, train), ("test", 0, test)):
            frame = pd.DataFrame(plant.rows(name, first, rows), columns=list(plant.channels(name)), dtype=np.float32)
            frame.to_parquet(folder / f"{series}.{part}.parquet")
    return names


@contextmanager
def opened_jobs() -> Iterator[Callable[..., Job]]:
    """A factory of jobs with written configs, called as `Job`; their workers end with the block."""
    jobs: list[Job] = []

    def make(*args: Any, **more: Any) -> Job:
        job = Job(*args, **more)
        job.init()
        jobs.append(job)
        return job

    try:
        yield make
    finally:
        for job in jobs:
            job.close()


@dataclass
class Job:
    """A directory with a config, for one topic and one bucket, and its processes."""

    home: Path
    kafka: str
    influx: Influx
    topic: str
    namespace: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    supervised: bool = False
    step: str = "1s"
    _others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _replaced: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def init(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        influx = self.influx
        self.run(
            *("init", "--kafka", self.kafka, "--influxdb", influx.url, "--org", influx.org, "--bucket", influx.bucket),
            *("--topic", self.topic, "--step", self.step),
        )

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "STREAM_AD__INFLUXDB__TOKEN": self.influx.token,
            "STREAM_AD__KAFKA__NAMESPACE": self.namespace,
            "STREAM_AD__KAFKA__GROUP": self.namespace,
            "STREAM_AD__KAFKA__SESSION_TIMEOUT_S": "3",
            "STREAM_AD__DETECTOR__SILENCE": "4s",
            **self.environment,
        }

    def run(self, *args: str, code: int = 0, timeout_s: float = 2 * PATIENCE_S) -> str:
        done = subprocess.run(
            [STREAM_AD, *args],
            cwd=self.home,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def supervise(self) -> None:
        """As a supervisor does: restart a worker that gave up because its broker was down at its start."""
        for worker in list(self.workers):
            if worker.poll() == 1 and worker not in self._replaced:
                self._replaced.append(worker)
                self.worker()

    def create_topic(self, partitions: int) -> None:
        create_topics(self.kafka, self.topic, partitions=partitions)

    def assigned(self, worker: subprocess.Popen[bytes]) -> int:
        """How many partition assignments the worker has logged."""
        return self.log_of(worker).count("reading from")

    def worker(self) -> subprocess.Popen[bytes]:
        with (self.home / f"worker-{len(self.workers)}.log").open("wb") as log:
            started = subprocess.Popen([STREAM_AD, "worker"], cwd=self.home, env=self.env, stdout=log, stderr=log)
        self.workers.append(started)
        return started

    def serve(self) -> str:
        """Start `stream-ad serve` on a free port; the link that it prints."""
        path = self.home / "serve.log"
        with path.open("wb") as log:
            command = [STREAM_AD, "serve", "--port", "0"]
            self._others.append(subprocess.Popen(command, cwd=self.home, env=self.env, stdout=log, stderr=log))

        def link() -> str:
            return (re.findall(r"serving (\S+)", path.read_text(errors="replace")) or [""])[0]

        assert wait_until(lambda: bool(link())), path.read_text(errors="replace")
        return link()

    def log_of(self, worker: subprocess.Popen[bytes]) -> str:
        return (self.home / f"worker-{self.workers.index(worker)}.log").read_text(errors="replace")

    def stop(self, worker: subprocess.Popen[bytes]) -> int:
        worker.send_signal(signal.SIGTERM)
        return worker.wait(PATIENCE_S)

    def close(self) -> None:
        for process in [*self.workers, *self._others]:
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE_S)

    def flux_counts(self) -> dict[str, int]:
        """Series -> number of scores, counted by Flux itself."""
        query = f"""from(bucket: "{self.influx.bucket}")
          |> range(start: 2000-01-01T00:00:00Z, stop: 2100-01-01T00:00:00Z)
          |> filter(fn: (r) => r._measurement == "score" and r._field == "score")
          |> group(columns: ["series"]) |> count()"""
        with InfluxDBClient(self.influx.url, self.influx.token, org=self.influx.org) as client:
            tables = client.query_api().query(query)
        return {record["series"]: record["_value"] for table in tables for record in table.records}

    def wait_for_scores(self, wanted: Mapping[str, int], timeout_s: float = 2 * PATIENCE_S) -> None:
        def there() -> bool:
            if self.supervised:
                self.supervise()
            for worker in self.workers:
                # -SIGTERM: it ended during its imports, before its signal handler was set
                ended = (None, 0, -signal.SIGKILL, -signal.SIGTERM)
                assert worker.poll() in ended or worker in self._replaced, (
                    f"{worker.returncode}: {self.log_of(worker)[-3000:]}"
                )
            return self.flux_counts() == dict(wanted)

        if not wait_until(there, timeout_s=timeout_s, every_s=0.5):
            logs = "\n".join(self.log_of(worker)[-2000:] for worker in self.workers)
            raise AssertionError(f"expected {dict(wanted)}, found {self.flux_counts()}\n{logs}")

    def scores(self, series: str) -> pd.DataFrame:
        """What `stream-ad scores` prints, in time order, with a column time_ns."""
        text = self.run("scores", series, "--start", START, "--stop", "2026-03-01T00:00:00Z", "--format", "csv")
        (self.home / "scores.csv").write_text(text)
        frame = pd.read_csv(self.home / "scores.csv")
        frame["time_ns"] = pd.to_datetime(frame["time"]).astype("datetime64[ns, UTC]").astype("int64")
        return frame.sort_values("time_ns")

    def backtest(self, data: Path) -> dict[str, pd.DataFrame]:
        self.run("backtest", "--data", str(data), "--out", "bt")
        return {
            p.name.removesuffix(".scores.parquet"): pd.read_parquet(p)
            for p in (self.home / "bt" / "PLANT").glob("*.parquet")
        }

    def config(self) -> dict[str, Any]:
        return tomllib.loads((self.home / "stream-ad.toml").read_text())

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json"))
