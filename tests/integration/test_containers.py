"""The services of compose.yaml, without containers: same settings, commands and health check, other addresses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stream_ad_connectors.influxdb.store import InfluxStore
from stream_ad_connectors.kafka.publisher import KafkaPublisher

from stream_ad.settings import InfluxSettings, KafkaSettings, Settings
from tests.support.docker_files import dashboards, instructions, queries, read_yaml
from tests.support.jobs import STREAM_AD
from tests.support.paths import DOCKER
from tests.support.services.errors import skip_if_unavailable
from tests.support.services.influxdb import Influx
from tests.support.services.kafka import KafkaServer, broker_answers, create_topics
from tests.support.services.process import HOST, free_ports, http_get, wait_until

SERVICES: dict[str, Any] = read_yaml(DOCKER / "compose.yaml")["services"]
IMAGE = instructions(DOCKER / "Dockerfile")
JVM_ONLY = {"KAFKA_HEAP_OPTS"}
SLOTS = 400
NOT_YET = {
    "stream_ad_alerts_total",
    "stream_ad_dead_letters_total",
    "stream_ad_unavailable_total",
    "stream_ad_notified_alerts_total",
    "stream_ad_notifications_held_back_total",
    "stream_ad_notification_failures_total",
    "stream_ad_notifications_waiting",
}  # no sample of them yet, and compose.yaml has no route


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Kafka with the settings of its service; the address of its inner listener. Ports and directories are replaced."""
    inside, host, controller = free_ports(3)
    changes = {
        "kafka:19092": f"{HOST}:{inside}",
        "INSIDE://:19092": f"INSIDE://{HOST}:{inside}",
        "HOST://:9092": f"HOST://{HOST}:{host}",
        "localhost:9092": f"{HOST}:{host}",
        "localhost:9093": f"{HOST}:{controller}",
        "/var/lib/kafka/data": str(tmp_path / "logs"),
    }
    given = {key: value for key, value in SERVICES["kafka"]["environment"].items() if key not in JVM_ONLY}
    properties = {key[6:].lower().replace("_", "."): replaced(value, changes) for key, value in given.items()}
    with skip_if_unavailable(), KafkaServer(host, tmp_path, properties=properties):
        assert wait_until(lambda: broker_answers(f"{HOST}:{inside}"))
        assert broker_answers(f"{HOST}:{host}"), "the listener for this machine answers too"
        yield f"{HOST}:{inside}"


def worker_environment(broker: str, store: Influx, home: Path) -> dict[str, str]:
    image = dict(pair.split("=", 1) for rest in (r for w, r in IMAGE if w == "ENV") for pair in rest.split())
    given = {key: value for key, value in image.items() if key.startswith("STREAM_AD__")}
    given |= SERVICES["worker"]["environment"]
    (home / "token").write_text(store.token + "\n")
    own = {
        "STREAM_AD__KAFKA__BOOTSTRAP": broker,
        "STREAM_AD__INFLUXDB__URL": store.url,
        "STREAM_AD__INFLUXDB__ORG": store.org,
        "STREAM_AD__INFLUXDB__BUCKET": store.bucket,
        "STREAM_AD__INFLUXDB__TOKEN_FILE": str(home / "token"),
        "STREAM_AD__MODELS__URL": str(home / "models"),
        "STREAM_AD__STORE__PATH": str(home / "store.db"),
        "STREAM_AD__OBSERVABILITY__HOST": HOST,  # a container's own network is not this machine's
    }
    assert own.keys() <= given.keys()
    return {**{k: v for k, v in os.environ.items() if not k.startswith("STREAM_AD")}, **given, **own}


def healthy(port: int) -> bool:
    """The image's own health check."""
    check = next(rest for word, rest in IMAGE if word == "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    done = subprocess.run(
        [sys.executable, *command[1:-1], command[-1].replace("9464", str(port))], capture_output=True, check=False
    )
    return command[0] == "python" and done.returncode == 0


def create_topic(broker: str) -> None:
    """The service `topics` by the admin client: the Kafka image's scripts are not here."""
    command = SERVICES["topics"]["command"]
    create_topics(
        broker, command[command.index("--topic") + 1], partitions=int(command[command.index("--partitions") + 1])
    )


def metric_of(expression: str) -> str:
    return re.findall(r"\b(?:stream_ad|process)_\w+", expression)[0]


def scraped(port: int) -> set[str]:
    """Names of all samples of a scrape."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=240) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {sample.name for family in families for sample in family.samples}


def publish_readings(broker: str) -> None:
    """SLOTS readings up to now, a second apart, to the topic that the worker's service subscribes to."""
    (topic,) = (one["topic"] for one in json.loads(SERVICES["worker"]["environment"]["STREAM_AD__SUBSCRIPTION"]))
    first_s = int(time.time()) - SLOTS
    publisher = KafkaPublisher(KafkaSettings(bootstrap=broker))
    for slot in range(SLOTS):
        values = {"flow": slot % 7, "pressure": slot % 11}
        reading = {"series": "pump-1", "time": (first_s + slot) * 1000, "values": values}
        publisher.send(topic, b"pump-1", json.dumps(reading).encode())
    publisher.close()


@contextmanager
def worker_of_compose(broker: str, store: Influx, home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service's command in its environment, its output in home/log; killed should it still run at the end."""
    command = [word.replace("9464", str(port)) for word in SERVICES["worker"]["command"]]
    environment = worker_environment(broker, store, home)
    with (home / "log").open("wb") as log:
        worker = subprocess.Popen([STREAM_AD, *command], cwd=home, env=environment, stdout=log, stderr=log)
    try:
        yield worker
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait(240)


def test_the_worker_of_compose_scores_and_is_healthy(broker: str, influx_bucket: Influx, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    home = tmp_path / "home"
    home.mkdir()
    create_topic(broker)
    publish_readings(broker)
    assert not healthy(port)
    given = {name: getattr(influx_bucket, name) for name in ("url", "org", "bucket", "token")}
    store = InfluxStore(Settings(influxdb=InfluxSettings(**given)))
    with worker_of_compose(broker, influx_bucket, home, port) as worker:
        found = wait_until(lambda: bool(store.reader.score_counts()), every_s=0.3)
        store.close()
        assert found, (home / "log").read_text()[-3000:]
        assert healthy(port)
        asked = {metric_of(text) for _, text in queries(dashboards()["operations"], "prometheus")}
        shown = wait_until(lambda: asked - scraped(port) <= NOT_YET, every_s=0.3)
        assert shown, f"not in a scrape: {asked - scraped(port)}"
        worker.send_signal(getattr(signal, next(rest for word, rest in IMAGE if word == "STOPSIGNAL")))
        assert worker.wait(240) == 0
    assert all(json.loads(line)["level"] for line in (home / "log").read_text().splitlines())


def test_the_page_of_compose_answers_to_its_token_alone(broker: str, influx_bucket: Influx, tmp_path: Path) -> None:
    port, secret = free_ports(1)[0], tmp_path / "serve_token"
    secret.write_text("0123456789abcdef" * 3)
    create_topic(broker)
    service = SERVICES["serve"]
    environment = worker_environment(broker, influx_bucket, tmp_path) | {
        key: value.replace("/run/secrets", str(tmp_path)) if "serve_token" in value else value
        for key, value in service["environment"].items()
        if key.startswith("STREAM_AD__SERVE__")
    }
    environment["STREAM_AD__SERVE__HOST"] = HOST  # a container's own network is not this machine's
    command = [word.replace("8080", str(port)) for word in service["command"]]
    check = [sys.executable, *service["healthcheck"]["test"][2:-1]]
    check.append(service["healthcheck"]["test"][-1].replace("8080", str(port)))
    with (tmp_path / "log").open("wb") as log:
        serve = subprocess.Popen([STREAM_AD, *command], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        well = lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0  # noqa: E731
        assert wait_until(well, every_s=0.5), (tmp_path / "log").read_text()
        url = f"http://{HOST}:{port}/api/v1/state"
        assert http_get(port, "/api/v1/state")[0] == 401
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret.read_text()}"})
        with urllib.request.urlopen(asked, timeout=240) as answer:
            assert {one["topic"] for one in json.load(answer)["lag"]} == {"sensors"}
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(service_stop_s(service)) == 0
    finally:
        if serve.poll() is None:
            serve.kill()
            serve.wait(240)


def service_stop_s(service: dict[str, Any]) -> float:
    return float(service["stop_grace_period"].removesuffix("s"))
