"""The command line and the client against a real broker and a real store: what is wrong is one clear message."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.sink import KafkaSink
from stream_ad_connectors.kafka.tail import KafkaTail

from stream_ad import Client, cli, wiring
from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.records import AlertState, Observation, Outputs
from stream_ad.service import make_app
from stream_ad.settings import (
    InfluxSettings,
    KafkaSettings,
    ServeSettings,
    Settings,
    StoreSettings,
    Subscription,
    load_settings,
)
from tests.support.fakes import LevelScorer
from tests.support.services.influxdb import Influx
from tests.support.sink_samples import SinkPromises, alert

NOWHERE = "127.0.0.1:9"
T = TypeVar("T")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="run")
def fixture_run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process with a light scorer; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "build_scorer", lambda settings: LevelScorer())
    monkeypatch.setattr("stream_ad.cli.diagnostics.build_scorer", lambda settings: LevelScorer())
    monkeypatch.setenv("STREAM_AD__KAFKA__REQUEST_TIMEOUT_S", "3")

    def run(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.run([str(arg) for arg in args])
        result = capfd.readouterr()
        return code, result.out, result.err

    return run


@pytest.fixture(name="config")
def fixture_config(
    run: Run,
    kafka: str,
    influx_bucket: Influx,
    namespace: str,
    topic_names: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """What `init` writes; the topic does not exist yet."""
    code, _, _ = run(
        "init", "--kafka", kafka, "--influxdb", influx_bucket.url, "--org", influx_bucket.org,
        "--bucket", influx_bucket.bucket, "--topic", topic_names("in"), "--step", "1s",
    )  # fmt: skip
    assert code == 0
    monkeypatch.setenv("STREAM_AD__INFLUXDB__TOKEN", influx_bucket.token)
    monkeypatch.setenv("STREAM_AD__KAFKA__NAMESPACE", namespace)
    monkeypatch.setenv("STREAM_AD__KAFKA__GROUP", namespace)
    return Path("stream-ad.toml")


def table(path: Path, rows: int) -> Path:
    pd.DataFrame({"a": np.arange(rows), "b": 0.5}).to_csv(path, index=False)
    return path


def wrong(result: tuple[int, str, str]) -> dict[str, str]:
    """Name -> text and hint of each failed finding of `check --json`."""
    return {f["name"]: f["text"] + " " + f["mend"] for f in json.loads(result[1]) if not f["ok"]}


def records(settings: KafkaSettings, topic: str) -> list[bytes]:
    tail = KafkaTail(settings, [topic])
    try:
        return [record.value or b"" for record in tail.last(10_000, 10)]
    finally:
        tail.close()


def test_replay_makes_the_topic_and_check_reads_it(
    run: Run, config: Path, kafka: str, topic_names: Callable[[str], str], tmp_path: Path
) -> None:
    topic = topic_names("in")
    files = [table(tmp_path / "one.csv", 300), table(tmp_path / "two.csv", 200)]
    result = run("check", "--json")
    assert result[0] == 2
    assert list(wrong(result)) == [f"topic {topic}"]
    code, out, err = run("replay", *files, "--topic", topic)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"topic {topic!r} does not exist" in err
    assert "--create" in err
    code, out, _ = run("replay", *files, "--topic", topic, "--create", "--partitions", 3, "--json")
    assert (code, json.loads(out)["sent"]) == (0, 500)
    assert len(records(KafkaSettings(bootstrap=kafka), topic)) == 500
    code, out, err = run("check")
    assert (code, err) == (0, "")
    assert f"topic {topic}: 3 partition(s)" in out
    assert "2 series (one, two), 2 channel(s)" in out
    code, out, _ = run("status", "--json")
    assert code == 0
    assert sum(one["lag"] for one in json.loads(out)["lag"]) == 500


def test_check_reports_records_that_do_not_decode(
    run: Run, config: Path, kafka: str, topic_names: Callable[[str], str]
) -> None:
    publisher = KafkaPublisher(KafkaSettings(bootstrap=kafka))
    admin = KafkaAdmin(KafkaSettings(bootstrap=kafka))
    admin.create_topic(topic_names("in"), 1)
    admin.close()
    publisher.send(topic_names("in"), None, b"not json")
    publisher.close()
    result = run("check", "--json")
    assert result[0] == 1
    assert list(wrong(result)) == [f"records of {topic_names('in')}"]


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected", "code"),
    [
        ("STREAM_AD__KAFKA__BOOTSTRAP", NOWHERE, "broker", "no answer from Kafka at 127.0.0.1:9", 1),
        ("STREAM_AD__INFLUXDB__URL", f"http://{NOWHERE}", "store", "no answer", 1),
        ("STREAM_AD__INFLUXDB__TOKEN", "wrong-token", "store", "the token is not accepted", 1),
        ("STREAM_AD__INFLUXDB__BUCKET", "no-such-bucket", "store", "influxdb.bucket", 2),
        ("STREAM_AD__DETECTOR__FALSE_ALARMS", "often", "config", "expected a rate", 2),
    ],
)
def test_check_names_the_problem(
    run: Run,
    config: Path,
    kafka: str,
    topic_names: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    name: str,
    expected: str,
    code: int,
) -> None:
    admin = KafkaAdmin(KafkaSettings(bootstrap=kafka))
    admin.create_topic(topic_names("in"), 1)
    admin.close()
    monkeypatch.setenv(variable, value)
    result = run("check", "--json")
    found = wrong(result)
    assert list(found) == [name]
    assert expected in found[name]
    assert "wrong-token" not in result[1] + result[2]
    assert result[0] == code


def test_commands_name_the_problem(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STREAM_AD__INFLUXDB__TOKEN", "wrong-token")
    for verb in (["scores", "s"], ["alerts"], ["status"]):
        code, out, err = run(*verb)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("error: reading from InfluxDB")
    monkeypatch.setenv("STREAM_AD__KAFKA__BOOTSTRAP", NOWHERE)
    code, out, err = run("replay", table(tmp_path / "one.csv", 3), "--topic", "t", "--step", "1s")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: listing topics: no answer from Kafka")


@pytest.fixture(name="settings")
def fixture_settings(config: Path) -> Settings:
    return load_settings(config)


def test_client_publishes_and_subscribes(
    settings: Settings, topic_names: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = KafkaAdmin(settings.kafka)
    for label in ("in", "in-more"):
        admin.create_topic(topic_names(label), 2)
    admin.close()
    with Client(settings) as client:
        with pytest.raises(ConfigError, match="does not exist"):
            client.publish(topic_names("missing"), "s", {"a": 1.0})
        with pytest.raises(ConfigError, match="no topic on the broker matches"):
            client.subscribe(topic_names("missing*"))
        client.publish(topic_names("in"), "before", {"a": 1.0})
        client.flush()
        coming = client.subscribe(topic_names("in") + "*")
        client.publish(topic_names("in"), "s", {"a": 1.0, "b": None}, "2024-01-01T00:00:00Z")
        client.publish(topic_names("in-more"), "t", {"c": 2.0}, "2024-01-01T00:00:01Z")
        client.flush()
        got = take(coming, 2)
    by_series = {observation.series: observation for observation in got}
    assert set(by_series) == {"s", "t"}
    assert by_series["t"] == Observation("t", 1704067201 * 10**9, {"c": 2.0})
    assert np.isnan(by_series["s"].values["b"])


def test_the_service_publishes_to_subscribed_topics(
    settings: Settings, topic_names: Callable[[str], str], tmp_path: Path
) -> None:
    with closing(KafkaAdmin(settings.kafka)) as admin:
        for label in ("in", "late"):
            admin.create_topic(topic_names(label), 2)
    known = Subscription(topic=topic_names("in"), time_unit="ms")
    update = {"subscription": (known,), "store": StoreSettings(path=tmp_path / "s.db"), "influxdb": InfluxSettings()}
    app = make_app(settings.model_copy(update={**update, "serve": ServeSettings(access="open")}))
    with TestClient(app, base_url="http://127.0.0.1") as client:

        def publish(label: str, series: str) -> int:
            body = [{"series": series, "time": 1000 * 10**6, "values": {"a": 1.0, "b": None}}] * 3
            return client.post(f"/api/v1/topics/{topic_names(label)}/observations", json=body).status_code

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(publish, ["in"] * 8, map(str, range(8)))) == [202] * 8
        assert publish("late", "s") == 422, "not subscribed"
        assert client.put(f"/api/v1/subscriptions/{topic_names('late')}", json={}).status_code == 204
        assert publish("late", "s") == 202
        assert client.delete(f"/api/v1/subscriptions/{topic_names('late')}").status_code == 204
        assert publish("late", "s") == 422
    found = records(settings.kafka, topic_names("in"))
    assert len(found) == 24
    assert json.loads(found[0]) | {"series": ""} == {"series": "", "time": 1000, "values": {"a": 1.0, "b": None}}
    assert len(records(settings.kafka, topic_names("late"))) == 3


def test_client_follows_alerts(settings: Settings) -> None:
    admin = KafkaAdmin(settings.kafka)
    admin.create_topic(settings.kafka.alerts_topic, 1)
    admin.close()
    sink = KafkaSink(settings.kafka)
    names = SinkPromises(prefix="")
    sink.write(Outputs(alerts=[alert(names, "0", "before", AlertState.OPEN)]))
    events = [alert(names, "1", "mine", AlertState.OPEN), alert(names, "2", "other", AlertState.OPEN)]
    with Client(settings) as client:
        mine, every = client.alerts("mine", follow=True), client.alerts(follow=True)
        sink.write(Outputs(alerts=events))
        assert take(mine, 1) == events[:1]
        assert take(every, 2) == events
    sink.close()


def test_client_without_a_broker() -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap=NOWHERE, request_timeout_s=1))
    with pytest.raises(UnavailableError), Client(settings) as client:
        client.subscribe("t")


def take(items: Iterator[T], count: int) -> list[T]:
    """The next few items, or fewer when they do not come in time."""
    got: list[T] = []
    reader = threading.Thread(target=lambda: got.extend(item for _, item in zip(range(count), items, strict=False)))
    reader.daemon = True
    reader.start()
    reader.join(240)
    return got
