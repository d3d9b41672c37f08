"""A worker on real services: its metrics match the store, its health endpoints report its state."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from kafka import KafkaConsumer
from prometheus_client.parser import text_string_to_metric_families
from stream_ad_connectors.kafka.publisher import KafkaPublisher

from stream_ad.settings import KafkaSettings
from tests.support.jobs import START, START_NS, STEP_NS, Job, opened_jobs, write_plant
from tests.support.services.influxdb import Influx
from tests.support.services.kafka import KafkaServer
from tests.support.services.process import free_ports, http_get, wait_until

TRAIN, TEST = 2000, 600
OUTAGE = re.compile(r"down for (\d+) s")


class Watched:
    """A job whose workers serve metrics and health on `port`."""

    def __init__(self, job: Job, **settings: str) -> None:
        self.job = job
        self.port = free_ports(1)[0]
        self.set(port=str(self.port), **settings)

    def set(self, **settings: str) -> None:
        for key, value in settings.items():
            self.job.environment[f"STREAM_AD__OBSERVABILITY__{key.upper()}"] = value

    def get(self, path: str) -> tuple[int, str]:
        return http_get(self.port, path)

    def scrape(self) -> dict[tuple[str, ...], float]:
        """(name, label values in the order of label names) -> value."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {
            (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
            for family in families
            for one in family.samples
        }

    def wait_ready(self) -> None:
        def ready() -> bool:
            worker = self.job.workers[-1]
            assert worker.poll() is None, self.job.log_of(worker)[-2000:]
            return self.get("/readyz")[0] == 200

        assert wait_until(ready, every_s=0.2), self.get("/readyz")


MakeJob = Callable[..., Watched]


@pytest.fixture
def make_job(
    tmp_path: Path, influx_bucket: Influx, topic_names: Callable[[str], str], namespace: str
) -> Iterator[MakeJob]:
    with opened_jobs() as opened:

        def make(kafka: str, **settings: str) -> Watched:
            job = opened(tmp_path / "job", kafka, influx_bucket, topic_names("sensors"), namespace)
            return Watched(job, **settings)

        yield make


def publish(job: Job, *records: bytes) -> None:
    publisher = KafkaPublisher(KafkaSettings(bootstrap=job.kafka))
    for record in records:
        publisher.send(job.topic, b"k", record)
    publisher.flush()
    publisher.close()


def reading(series: str, slot: int) -> bytes:
    time_ms = (START_NS + slot * STEP_NS) // 1_000_000
    return json.dumps({"series": series, "time": time_ms, "values": {"a": 1.0 + slot % 7}}).encode()


class JobTopic:
    """All records of one of the job's topics."""

    def __init__(self, job: Job, topic: str) -> None:
        self.messages: list[Any] = []
        self._consumer = KafkaConsumer(
            f"{job.namespace}.{topic}", bootstrap_servers=job.kafka, auto_offset_reset="earliest", group_id=None
        )

    def look(self) -> list[Any]:
        """All until now."""
        while found := self._consumer.poll(timeout_ms=500):
            self.messages += [message for messages in found.values() for message in messages]
        return self.messages

    def events(self, rule: str | None = None) -> list[dict[str, Any]]:
        alerts = [json.loads(message.value) for message in self.look()]
        return [alert for alert in alerts if rule in (None, alert["rule"])]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def test_metrics_match_the_store(make_job: MakeJob, kafka: str, tmp_path: Path) -> None:
    watched = make_job(kafka, log_format="json")
    job, data = watched.job, tmp_path / "data"
    series = write_plant(data, TRAIN, TEST)
    job.run("fit", *(str(data / "PLANT" / f"{name}.train.parquet") for name in series))
    files = [str(data / "PLANT" / f"{name}.test.parquet") for name in series]
    job.run("replay", *files, "--topic", job.topic, "--start", START, "--create", "--partitions", "2")
    publish(job, b"{broken", b"", b"{broken again", b'{"series": "x", "time": "yesterday", "values": {"a": 1}}')
    worker = job.worker()
    job.wait_for_scores(dict.fromkeys(series, TEST))
    with JobTopic(job, "dlq") as dead:
        assert wait_until(lambda: len(dead.look()) == 4)
        reasons = Counter(dict(one.headers)["error_class"].decode() for one in dead.messages)

    def settled() -> bool:
        seen = watched.scrape()
        return sum(v for key, v in seen.items() if key[0] == "stream_ad_lag_records") == 0

    assert wait_until(settled, every_s=0.5)
    seen = watched.scrape()
    rows = TEST * len(series)
    assert seen["stream_ad_records_total",] == rows + 4
    assert seen["stream_ad_observations_total",] == rows
    assert seen["stream_ad_scores_total",] == sum(job.flux_counts().values()) == rows
    with JobTopic(job, "alerts") as alerts:
        events_seen = Counter((event["rule"], event["state"]) for event in alerts.events())
    assert events_seen
    assert {key[1:]: value for key, value in seen.items() if key[0] == "stream_ad_alerts_total"} == events_seen
    assert {key[1]: v for key, v in seen.items() if key[0] == "stream_ad_dead_letters_total"} == reasons
    assert seen["stream_ad_partitions",] == 2
    assert seen["stream_ad_series",] == len(series)
    assert seen["stream_ad_ready",] == 1
    assert {key[1] for key in seen if key[0] == "stream_ad_stage_seconds_count"} >= {
        "poll", "process", "score", "write", "state", "commit"
    }  # fmt: skip
    assert watched.get("/healthz") == (200, '{"status": "ok", "reasons": []}')
    assert json.loads(watched.get("/readyz")[1])["partitions"] == [f"{job.topic}/0", f"{job.topic}/1"]

    refused = json.loads(job.run("worker", code=2).splitlines()[-1])  # on the same host, with the same port
    assert f"port {watched.port} cannot be bound" in refused["message"]
    assert job.stop(worker) == 0
    events = [json.loads(line) for line in job.log_of(worker).splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(event) for event in events)
    assert {event["partition"] for event in events if event.get("topic") == job.topic} == {0, 1}
    assert {event["state"] for event in events if "alert_id" in event} == {state for _, state in events_seen}


def test_a_restart_does_not_repeat_an_absence_alert(make_job: MakeJob, kafka: str) -> None:
    watched = make_job(kafka)
    job = watched.job
    job.environment["STREAM_AD__ALERTS__SILENT_AFTER"] = "4s"
    job.create_topic(1)
    publish(job, *(reading("still", slot) for slot in range(5)))
    first = job.worker()
    watched.wait_ready()
    with JobTopic(job, "alerts") as topic:

        def silent() -> list[tuple[str, str]]:
            """Without duplicates: after a kill before the next commit, the next worker emits the same alert again."""
            events = {(event["id"], event["state"]): event["series"] for event in topic.events("silent")}
            return [(series, state) for (_, state), series in events.items()]

        def shown() -> dict[str, dict[str, Any]]:
            return {alert["id"]: alert for alert in job.json("alerts", "--start", START)}

        assert wait_until(lambda: silent() == [("still", "open")]), silent()
        [alert] = shown().values()
        assert (alert["rule"], alert["severity"], alert["state"]) == ("silent", "silent", "open")
        assert alert["start_ns"] == START_NS + 4 * STEP_NS

        first.send_signal(signal.SIGKILL)
        first.wait(240)
        second = job.worker()
        watched.wait_ready()
        publish(job, reading("other", 1), reading("other", 2))
        assert wait_until(lambda: ("other", "open") in silent()), silent()
        assert silent() == [("still", "open"), ("other", "open")]
        publish(job, reading("still", 100), reading("still", 101))
        assert wait_until(lambda: ("still", "resolved") in silent()), silent()
        resolved = shown()[alert["id"]]
        assert (resolved["state"], resolved["end_ns"]) == ("resolved", START_NS + 100 * STEP_NS)
    assert job.stop(second) == 0


def test_a_frozen_broker_makes_a_worker_wait(make_job: MakeJob, kafka_server: KafkaServer) -> None:
    watched = make_job(kafka_server.address, stall_after="2s", exit_after="1s")
    job = watched.job
    job.environment["STREAM_AD__KAFKA__REQUEST_TIMEOUT_S"] = "2"
    job.create_topic(1)
    publish(job, *(reading("s", slot) for slot in range(20)))
    worker = job.worker()
    watched.wait_ready()
    kafka_server.pause()

    def waited() -> float:
        status, body = watched.get("/healthz")
        assert status == 200
        return max((float(seconds) for seconds in OUTAGE.findall(body)), default=0)

    assert wait_until(lambda: waited() >= 6, every_s=0.2)  # twice what ends a stalled worker
    assert watched.get("/readyz")[0] == 503
    assert watched.scrape()["stream_ad_paused",] == 1
    kafka_server.resume()
    watched.wait_ready()
    publish(job, *(reading("s", slot) for slot in range(20, 40)))
    assert wait_until(lambda: watched.scrape()["stream_ad_observations_total",] == 40, every_s=0.2)
    assert worker.poll() is None
    assert job.stop(worker) == 0


STALL = """
import sys, threading, time
from stream_ad_connectors.host.metrics import HostMetricsSource
from stream_ad_connectors.sqlite.store import SqliteStore
from stream_ad.observability.logs import format_logs
from stream_ad.settings import Settings, ObservabilitySettings
from stream_ad.runtime.worker import run_worker
import logging

def stuck_for_ever(self, *args):
    time.sleep(3600)

async def loop_stuck_for_ever(self, timeout_s):
    time.sleep(3600)

if sys.argv[1] == "sink":
    SqliteStore.write = stuck_for_ever
else:
    poll, count = HostMetricsSource.poll, []

    async def later(self, timeout_s):
        count.append(1)
        return await (loop_stuck_for_ever if len(count) > 5 else poll)(self, timeout_s)

    HostMetricsSource.poll = later
logging.basicConfig(level=logging.INFO)
format_logs("text")
run_worker(Settings(observability=ObservabilitySettings(stall_after="2s", exit_after="2s", port=int(sys.argv[2]))))
"""


@pytest.mark.parametrize(
    ("where", "reason", "frame"),
    [
        ("sink", "writing to sqlite for", "stuck_for_ever"),
        ("loop", "the event loop has not run", "loop_stuck_for_ever"),
    ],
)
def test_a_stuck_worker_reports_the_stall_and_exits(where: str, reason: str, frame: str, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    watched = Watched.__new__(Watched)
    watched.port = port
    with (tmp_path / "log").open("w+") as log:
        stuck = subprocess.Popen([sys.executable, "-c", STALL, where, str(port)], cwd=tmp_path, stdout=log, stderr=log)
        try:
            seen: list[tuple[int, str]] = []

            def ended() -> bool:
                seen.append(watched.get("/healthz"))
                return stuck.poll() is not None

            assert wait_until(ended)
        finally:
            stuck.kill()
            stuck.wait(240)
        text = (tmp_path / "log").read_text()
    assert stuck.returncode == 1, text[-3000:]
    assert any(status == 503 and reason in body for status, body in seen), set(seen)
    assert "exiting, to be restarted by a supervisor" in text
    assert reason in text
    assert frame in text
