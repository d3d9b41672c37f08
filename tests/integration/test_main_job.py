"""The whole path on a real broker and a real store, by the console script alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from kafka import KafkaConsumer
from stream_ad_connectors.kafka.publisher import KafkaPublisher

from stream_ad.settings import KafkaSettings
from tests.support.jobs import START, START_NS, STEP_NS, Job, opened_jobs, write_plant
from tests.support.services.influxdb import Influx
from tests.support.services.process import wait_until

TRAIN, TEST = 2000, 900

MakeJob = Callable[[str], Job]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    data = tmp_path_factory.mktemp("data")
    return data, write_plant(data, TRAIN, TEST)


@pytest.fixture
def make_job(
    tmp_path: Path, kafka: str, influx_bucket: Influx, topic_names: Callable[[str], str], namespace: str
) -> Iterator[MakeJob]:
    with opened_jobs() as opened:
        yield lambda name: opened(tmp_path / name, kafka, influx_bucket, topic_names("sensors"), namespace)


def files(data: Path, series: list[str], part: str) -> list[str]:
    return [str(data / "PLANT" / f"{name}.{part}.parquet") for name in series]


def replay(job: Job, data: Path, series: list[str], *extra: str) -> None:
    paths = files(data, series, "test")
    job.run("replay", *paths, "--topic", job.topic, "--start", START, "--create", "--partitions", "4", *extra)


def read_topic(address: str, topic: str, count: int) -> list[tuple[dict[str, bytes], bytes]]:
    consumer = KafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=4000)
    try:
        found = []
        for message in consumer:
            found.append((dict(message.headers or ()), message.value))
            if len(found) == count:
                break
        return found
    finally:
        consumer.close()


def assert_like_backtest(job: Job, data: Path, series: list[str]) -> None:
    expected = job.backtest(data)
    for name in series:
        scores = job.scores(name)
        assert len(scores) == len(expected[name]) == TEST
        assert np.array_equal(scores["time_ns"], START_NS + STEP_NS * np.arange(TEST))
        assert np.allclose(scores["score"], expected[name]["score"], rtol=1e-4, atol=0)


def test_fitted_series_from_topic_to_store_and_back(
    make_job: MakeJob, plant: tuple[Path, list[str]], kafka: str
) -> None:
    data, series = plant
    job = make_job("fitted")
    job.run("fit", *files(data, series, "train"))
    replay(job, data, series)
    worker = job.worker()
    job.wait_for_scores(dict.fromkeys(series, TEST))
    assert not [file.path for file in psutil.Process(worker.pid).memory_maps() if "/pandas/" in file.path]  # 74 MiB
    assert job.stop(worker) == 0

    assert_like_backtest(job, data, series)
    alerts = job.json("alerts", "--start", START)
    assert alerts
    assert {a["series"] for a in alerts} <= set(series)
    events = [json.loads(value) for _, value in read_topic(kafka, f"{job.namespace}.alerts", 10_000)]
    assert {a["id"] for a in events} == {a["id"] for a in alerts}
    assert all(a["channels"] and "expected" in a["channels"][0] for a in events)
    status = {s["series"]: s for s in job.json("status")["series"]}
    assert set(status) == set(series)
    assert {s["state"] for s in status.values()} == {"scoring"}


def test_unfitted_series_are_scored_from_their_first_full_window_on(
    make_job: MakeJob, plant: tuple[Path, list[str]]
) -> None:
    data, series = plant
    job = make_job("unfitted")
    replay(job, data, series[:1])
    job.worker()
    job.wait_for_scores({series[0]: TEST - 128})
    first = int(job.scores(series[0])["time_ns"].iloc[0])
    assert first == START_NS + 128 * STEP_NS

    def said() -> bool:
        [status] = job.json("status")["series"]
        return bool(status["first_score_ns"] == first and status["memory_slots"] == 512)

    assert wait_until(said, every_s=1)


def test_a_killed_worker_leaves_the_store_as_if_nothing_had_happened(
    make_job: MakeJob, plant: tuple[Path, list[str]]
) -> None:
    data, series = plant
    job = make_job("killed")
    job.run("fit", *files(data, series[:1], "train"))  # one fitted, the others fill their memories as they go
    job.create_topic(4)
    first, second = job.worker(), job.worker()
    shared = lambda: min(job.assigned(first), job.assigned(second)) >= 2  # noqa: E731
    assert wait_until(shared, every_s=0.2)
    replay(job, data, series, "--speed", "30")
    wanted = {name: TEST if name == series[0] else TEST - 128 for name in series}
    halfway = sum(wanted.values()) // 2
    assert wait_until(lambda: sum(job.flux_counts().values()) > halfway, every_s=0.2)
    first.send_signal(signal.SIGKILL)
    job.wait_for_scores(wanted)

    fitted = job.backtest(data)[series[0]]["score"]
    assert np.allclose(job.scores(series[0])["score"], fitted, rtol=1e-4, atol=0)
    for name in series[1:]:
        assert_like_unfitted(job, data, name)


def assert_like_unfitted(job: Job, data: Path, name: str) -> None:
    alone = job.home / "alone" / "PLANT"
    alone.mkdir(parents=True, exist_ok=True)
    source = data / "PLANT" / f"{name}.test.parquet"
    (alone / source.name).write_bytes(source.read_bytes())
    job.run("backtest", "--data", str(job.home / "alone"), "--out", "bt-alone", "--series", name)
    expected = pd.read_parquet(job.home / "bt-alone" / "PLANT" / f"{name}.scores.parquet")["score"].dropna()
    assert np.allclose(job.scores(name)["score"], expected, rtol=1e-4, atol=0)


BAD = [
    b"{broken",
    b"\xff\xfe",
    b"",
    b"[]",
    b'{"series": "S", "time": "yesterday", "values": {"a": 1}}',
    b'{"series": "S", "time": 1767225600000, "values": {"speed_rpm": "fast"}}',
    b'{"series": "S", "time": 1767225600000, "values": {"speed_rpm": {"x": 1}}}',
    b'{"series": "S", "time": 1767225600000, "values": {"nobody_knows_me": 1.5}}',
    b'{"series": "S", "time": 1767225600000}',
    b'{"series": "S", "time": 1767225600000, "values": {}}',
    b'{"series": "S", "time": 4102444800000, "values": {"speed_rpm": 1}}',
    b'{"series": "S", "time": 1767225600000, "values": {"speed_rpm": "' + b"x" * 900_000 + b'"}}',
    b'{"series": "' + b"S" * 900_000 + b'", "time": 1767225600000, "values": {"speed_rpm": 1}}',
]
MASKED = [
    b'{"series": "S", "time": %d, "values": {"speed_rpm": NaN, "flow_m3h": null}}',
    b'{"series": "S", "time": %d, "values": {"speed_rpm": Infinity}}',
]


def test_bad_records_are_dead_letters_and_the_rest_is_scored_as_without_them(
    make_job: MakeJob, plant: tuple[Path, list[str]], kafka: str
) -> None:
    data, series = plant
    name = series[0]
    job = make_job("bad")
    job.run("fit", *files(data, [name], "train"))
    job.create_topic(1)
    frame = pd.read_parquet(data / "PLANT" / f"{name}.test.parquet")
    publisher = KafkaPublisher(KafkaSettings(bootstrap=kafka))
    for row, values in enumerate(frame.to_dict("records")):
        time_ms = (START_NS + row * STEP_NS) // 1_000_000
        body = {"series": name, "time": time_ms, "values": {k: None if v != v else v for k, v in values.items()}}
        publisher.send(job.topic, name.encode(), json.dumps(body).encode())
        if row % 50 == 0:
            bad = BAD[(row // 50) % len(BAD)].replace(b'"S"', json.dumps(name).encode())
            publisher.send(job.topic, None, bad)
            masked = MASKED[(row // 50) % 2].replace(b'"S"', json.dumps(name).encode()) % time_ms
            publisher.send(job.topic, name.encode(), masked)
            publisher.send(job.topic, name.encode(), json.dumps(body).encode())  # a repeated time
    publisher.flush()
    publisher.close()
    job.worker()
    job.wait_for_scores({name: TEST})
    assert_like_backtest(job, data, [name])
    sent = (TEST + 49) // 50
    dead = read_topic(kafka, f"{job.namespace}.dlq", sent)
    assert len(dead) == sent
    reasons = {headers["error_class"].decode() for headers, _ in dead}
    assert {"broken_json", "empty", "wrong_type", "unknown_channel", "missing_field", "no_values", "future"} <= reasons
    assert all(headers["error_text"] and headers["source_offset"] for headers, _ in dead)
