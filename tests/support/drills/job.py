"""The job of a drill's workers: a topic, a store, a directory with the config and the fitted profiles."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kafka import KafkaAdminClient
from stream_ad_connectors.influxdb.store import InfluxStore
from stream_ad_connectors.kafka.admin import KafkaAdmin, ensure_topics
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.demo.plant import Plant
from stream_ad.errors import UnavailableError
from stream_ad.offline.fit import fit_tables
from stream_ad.records import Table
from stream_ad.settings import Settings
from stream_ad.wiring import build_scorer, open_profiles
from tests.support.drills.faults import SESSION_S
from tests.support.drills.feed import name_of
from tests.support.drills.world import World
from tests.support.services.influxdb import create_bucket, delete_bucket
from tests.support.services.kafka import create_topics

__all__ = ["Job", "opened"]

PARTITIONS = 4
TRAIN = 2000
ROWS = 40_000
STEP = "1s"


@dataclass
class Job:
    """`settings` bypass the proxies, for the observing test; `environment` sends the workers through them."""

    home: Path
    settings: Settings
    environment: dict[str, str]
    plants: list[Plant]

    @property
    def topic(self) -> str:
        return self.settings.subscription[0].topic

    @property
    def series(self) -> list[str]:
        return [name_of(own, number) for number, plant in enumerate(self.plants) for own in plant.series]

    def open_store(self) -> InfluxStore | SqliteStore:
        embedded = self.settings.influxdb.url is None
        return SqliteStore(self.settings.store.path) if embedded else InfluxStore(self.settings)

    def lag(self) -> int:
        """Records after the committed offsets; -1 while the broker does not answer."""
        admin = KafkaAdmin(self.settings.kafka)
        try:
            return sum(place.lag for place in admin.lag([self.topic]))
        except UnavailableError:
            return -1
        finally:
            admin.close()


@contextmanager
def opened(home: Path, world: World, seed: int, *, disk: Path | None, silence: bool) -> Iterator[Job]:
    """A new job on the world's broker and store; its topics and bucket are deleted with the block. The series of the
    first of its two plants are fitted, those of the second fill their memory from the stream."""
    name = f"drill-{seed}-{uuid.uuid4().hex[:6]}"
    folder = disk or home
    plants = [Plant.live(seed + k, ROWS, ROWS // 250, past_slots=TRAIN) for k in (0, 1)]
    kafka = {"bootstrap": world.broker.address, "namespace": name, "group": name, "request_timeout_s": 5.0}
    kafka |= {"session_timeout_s": SESSION_S}
    common = {
        "subscription": ({"topic": f"{name}.in", "step": STEP},),
        "detector": {"silence": "3s" if silence else "2h"},
        "models": {"url": str(folder / "models")},
    }
    bucket = None
    if disk is None:
        bucket = create_bucket(world.store.influx, name)
        influx = {"url": bucket.url, "org": bucket.org, "bucket": bucket.bucket, "token": bucket.token}
        settings = Settings(kafka=kafka, influxdb=influx, **common)
    else:
        settings = Settings(kafka=kafka, store={"path": str(folder / "store.db")}, **common)
    create_topics(world.broker.address, f"{name}.in", partitions=PARTITIONS)
    ensure_topics(settings.kafka, [f"{name}.in"])
    job = Job(home, settings, _environment(settings, world), plants)
    home.mkdir(parents=True, exist_ok=True)
    (home / "stream-ad.toml").write_text(_toml(settings, world))
    _fit(job)
    try:
        yield job
    finally:
        _remove_topics(settings, f"{name}.in")
        if bucket is not None:
            delete_bucket(bucket)


def undisturbed_settings(job: Job) -> Settings:
    """The same settings over a copy of the profiles from before the first record."""
    return job.settings.model_copy(
        update={"models": job.settings.models.model_copy(update={"url": str(job.home / "models-before")})}
    )


def _fit(job: Job) -> None:
    plant = job.plants[0]
    tables = [
        Table(name_of(own, 0), plant.channels(own), None, plant.rows(own, -TRAIN, TRAIN).astype(np.float32), None)
        for own in plant.series
    ]
    for _ in fit_tables(tables, job.settings, build_scorer(job.settings), open_profiles(job.settings), STEP):
        pass
    shutil.copytree(job.settings.models.url, job.home / "models-before")


def _toml(settings: Settings, world: World) -> str:
    kafka = settings.kafka
    lines = [
        "[kafka]",
        f'bootstrap = "{world.kafka_address}"',
        f'namespace = "{kafka.namespace}"',
        f'group = "{kafka.group}"',
        f"session_timeout_s = {kafka.session_timeout_s}",
        f"request_timeout_s = {kafka.request_timeout_s}",
        "[[subscription]]",
        f'topic = "{settings.subscription[0].topic}"',
        f'step = "{STEP}"',
        "[detector]",
        f'silence = "{settings.detector.silence}"',
        "[models]",
        f'url = "{settings.models.url}"',
    ]
    if settings.influxdb.url is None:
        lines += ["[store]", f'path = "{settings.store.path}"']
    else:
        influx = settings.influxdb
        lines += ["[influxdb]", f'url = "{world.store_url}"', f'org = "{influx.org}"', f'bucket = "{influx.bucket}"']
        lines += ["timeout_s = 4.0"]
    return "\n".join(lines) + "\n"


def _environment(settings: Settings, world: World) -> dict[str, str]:
    token = settings.influxdb.token
    secret = {} if token is None else {"STREAM_AD__INFLUXDB__TOKEN": token.get_secret_value()}
    paths = os.environ.get("PYTHONPATH")
    found = {} if not paths else {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))}
    return {"OMP_NUM_THREADS": "1", **found, **secret}


def _remove_topics(settings: Settings, topic: str) -> None:
    kafka = settings.kafka
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        client.delete_topics([topic, kafka.alerts_topic, kafka.dlq_topic, kafka.state_topic])
    finally:
        client.close()
