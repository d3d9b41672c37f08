"""A worker process with its config, supervised for crashes, and its results in the store."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stream_ad_connectors.kafka.admin import KafkaAdmin

from stream_ad.settings import KafkaSettings, load_settings
from stream_ad.wiring import Store, open_store
from tests.support.jobs import STREAM_AD
from tests.support.services.influxdb import Influx
from tests.support.services.process import PATIENCE_S, wait_until

MAX_CRASHES = 5
END_NS = 2**63 - 1
Contents = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]


@dataclass
class HostileRun:
    """One worker with its config; influx None = the embedded store."""

    home: Path
    kafka: str
    name: str
    influx: Influx | None
    scorer: str = "universal"
    crashes: int = 0
    worker: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        store = f'path = "{self.home / "store.db"}"'
        influx = self.influx
        where = (
            f"[store]\n{store}"
            if influx is None
            else f'[influxdb]\nurl = "{influx.url}"\norg = "{influx.org}"\nbucket = "{influx.bucket}"'
        )
        (self.home / "stream-ad.toml").write_text(
            f'[kafka]\nbootstrap = "{self.kafka}"\nnamespace = "{self.name}"\ngroup = "{self.name}"\n'
            f'[[subscription]]\ntopic = "{self.name}"\nstep = "1s"\n{where}\n'
            f'[detector]\nscorer = "{self.scorer}"\nsilence = "3s"\nmax_series = 1000000\n'
            f'[models]\nurl = "{self.home.parent / "models"}"\n'
        )

    @property
    def env(self) -> dict[str, str]:
        token = {} if self.influx is None else {"STREAM_AD__INFLUXDB__TOKEN": self.influx.token}
        return {**os.environ, **token}

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(bootstrap=self.kafka, namespace=self.name, group=self.name)

    def call(self, *args: str) -> str:
        done = subprocess.run(
            [STREAM_AD, *args], cwd=self.home, env=self.env, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{args}: {done.stderr[-2000:]}"
        return done.stdout

    def create_topic(self, partitions: int) -> None:
        """Without retention: the broker deletes records by their timestamps, and these are old."""
        admin = KafkaAdmin(self.settings)
        admin.create_topic(self.name, partitions, {"retention.ms": "-1"})
        admin.close()

    def start(self) -> None:
        with (self.home / f"worker-{self.crashes}.log").open("wb") as log:
            self.worker = subprocess.Popen([STREAM_AD, "worker"], cwd=self.home, env=self.env, stdout=log, stderr=log)

    def supervise(self) -> None:
        """Count a worker that ended by itself as a crash and restart it, a few times."""
        assert self.worker is not None
        if self.worker.poll() is not None:
            self.crashes += 1
            assert self.crashes <= MAX_CRASHES, self.log()
            self.start()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.home.glob("worker-*.log")))

    def wait_until_read(self, timeout_s: float) -> None:
        admin = KafkaAdmin(self.settings)

        def read() -> bool:
            self.supervise()
            return sum(one.lag for one in admin.lag([self.name])) == 0

        try:
            assert wait_until(read, timeout_s=timeout_s, every_s=1), self.log()
        finally:
            admin.close()

    def stop(self) -> None:
        assert self.worker is not None
        self.worker.send_signal(signal.SIGTERM)
        if self.worker.wait(PATIENCE_S) != 0:
            self.crashes += 1

    def close(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            self.worker.kill()
            self.worker.wait(PATIENCE_S)

    def contents(self, names: list[str]) -> tuple[Contents, set[str]]:
        """Series -> times and scores in the store, and the ids of all alerts."""
        with self._store() as store:
            held: Contents = {}
            for name in names:
                batches = store.scores.scores(name, 0, END_NS, detail=False)
                times = [batch.event_time_ns for batch in batches] or [np.empty(0, np.int64)]
                held[name] = np.concatenate(times), np.concatenate([b.score for b in batches] or [np.empty(0)])
            return held, {alert.id for name in names for alert in store.alerts.alerts(name, 0, END_NS)}

    def known(self) -> set[str]:
        with self._store() as store:
            return {status.series for status in store.statuses.statuses()}

    @contextmanager
    def _store(self) -> Iterator[Store]:
        before = os.environ.get("STREAM_AD__INFLUXDB__TOKEN")
        os.environ.update({k: v for k, v in self.env.items() if k.startswith("STREAM_AD__")})
        try:
            store = open_store(load_settings(self.home / "stream-ad.toml"))
        finally:
            if before is None:
                os.environ.pop("STREAM_AD__INFLUXDB__TOKEN", None)
        try:
            yield store
        finally:
            store.sink.close()
