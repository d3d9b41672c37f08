"""Topics added and removed while workers run: by the command line, by HTTP, by a pattern."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.subscription_store import KafkaSubscriptions

from stream_ad.settings import KafkaSettings
from tests.contracts.check_subscription_store import check_subscription_store
from tests.support.jobs import START_NS, STEP_NS, Job, opened_jobs
from tests.support.services.influxdb import Influx
from tests.support.services.kafka import create_topics
from tests.support.services.process import wait_until

SLOTS = 400


def test_the_topic_fulfils_the_contract(kafka: str, namespace: str) -> None:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace)
    create_topics(kafka, f"{namespace}-t", partitions=3)
    check_subscription_store(lambda: KafkaSubscriptions(settings), f"{namespace}-t", 3)


@pytest.fixture
def job(
    tmp_path: Path, kafka: str, influx_bucket: Influx, topic_names: Callable[[str], str], namespace: str
) -> Iterator[Job]:
    with opened_jobs() as opened:
        made = opened(tmp_path / "job", kafka, influx_bucket, topic_names("first"), namespace)
        made.environment["STREAM_AD__DETECTOR__SCORER"] = "memory"
        made.create_topic(2)
        yield made


def publish(job: Job, topic: str, series: str, first: int = 0, slots: int = SLOTS) -> None:
    """The same values for each series, so that their scores are equal."""
    noise = np.random.default_rng(1).normal(size=first + slots)
    publisher = KafkaPublisher(KafkaSettings(bootstrap=job.kafka))
    for slot in range(first, first + slots):
        time_ms = (START_NS + slot * STEP_NS) // 1_000_000
        body = {"series": series, "time": time_ms, "values": {"a": np.sin(slot / 9) + noise[slot] / 9}}
        publisher.send(topic, series.encode(), json.dumps(body).encode())  # a record of long ago the broker may delete
    publisher.flush()
    publisher.close()


def scored(job: Job) -> dict[str, int]:
    return job.flux_counts()


def wait_for(job: Job, series: list[str]) -> None:
    """Until each has as many scores as the first topic's own series, which has some."""

    def ready() -> bool:
        found = scored(job)
        return found.get("one", 0) > 0 and all(found.get(name) == found["one"] for name in series)

    if not wait_until(ready, every_s=0.5):
        logs = "\n".join(job.log_of(worker)[-3000:] for worker in job.workers)
        raise AssertionError(f"{scored(job)}\n{logs}")


def ask(link: str, method: str, path: str, body: Any = None) -> int:
    base, _, token = link.partition("/?token=")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urlopen(Request(base + path, data, headers, method=method), timeout=240) as answer:
        return int(answer.status)


def test_topics_are_added_and_removed_without_a_restart(
    job: Job, topic_names: Callable[[str], str], kafka: str
) -> None:
    second, third, fourth = topic_names("second"), topic_names("plant.3"), topic_names("plant.4")
    create_topics(kafka, second, partitions=4)  # more than the first: the states' topic has to grow
    workers = [job.worker(), job.worker()]
    assert wait_until(lambda: all(job.assigned(one) for one in workers), every_s=0.2)
    publish(job, job.topic, "one")
    publish(job, second, "two")
    assert wait_until(lambda: scored(job).get("one", 0) > 0, every_s=0.5), job.log_of(workers[0])
    assert "two" not in scored(job)

    job.run("subscribe", second, "--step", "1s")
    wait_for(job, ["two"])

    create_topics(kafka, third, partitions=1)
    publish(job, third, "three")
    pattern = topic_names("plant.*")
    assert ask(job.serve(), "PUT", f"/api/v1/subscriptions/{pattern}", {"step": "1s"}) == 204
    wait_for(job, ["two", "three"])
    create_topics(kafka, fourth, partitions=1)
    publish(job, fourth, "four")
    wait_for(job, ["two", "three", "four"])

    listed = {one["topic"]: (one["by"], one["topics"]) for one in job.json("subscribe")}
    assert listed == {
        job.topic: ("config", [job.topic]),
        second: ("run time", [second]),
        pattern: ("run time", [third, fourth]),
    }
    assert {one["topic"] for one in job.json("status")["lag"]} == {job.topic, second, third, fourth}
    checked = job.run("check")
    assert all(f"records of {topic}" in checked for topic in (job.topic, second, third, fourth))

    job.run("subscribe", second, "--remove")
    gone = f"topic {second} is no longer scored"
    assert wait_until(lambda: all(gone in job.log_of(one) for one in workers))
    before = scored(job)["two"]
    publish(job, second, "two", SLOTS, 100)
    publish(job, third, "three", SLOTS, 100)
    assert wait_until(lambda: scored(job)["three"] > before, every_s=0.5)
    assert scored(job)["two"] == before

    workers[0].kill()
    job.run("subscribe", second, "--set", "time_unit=ms")  # reading resumes at the committed offset
    wait_for_same(job, "two", "three")
    assert workers[1].poll() is None, "it was never restarted"
    scores = {name: job.scores(name) for name in ("one", "two", "three", "four")}
    for name in ("two", "three", "four"):  # the last slots wait for more to come, and "one" and "four" got no more
        assert np.allclose(scores[name]["score"][:200], scores["one"]["score"][:200], rtol=1e-4, atol=0), name


def wait_for_same(job: Job, series: str, other: str) -> None:
    same = lambda: scored(job)[series] == scored(job)[other]  # noqa: E731
    assert wait_until(same, every_s=0.5), f"{scored(job)}\n{job.log_of(job.workers[1])[-3000:]}"


def test_a_worker_starts_with_runtime_subscriptions(job: Job, topic_names: Callable[[str], str]) -> None:
    config = job.home / "stream-ad.toml"
    before, _, after = config.read_text(encoding="utf-8").partition("[[subscription]]")
    config.write_text(before + after[after.index("\n[") :], encoding="utf-8")
    assert "stream-ad subscribe" in job.run("worker", code=2)
    create_topics(job.kafka, topic_names("plant.1"), partitions=1)
    job.run("subscribe", topic_names("plant.*"), "--step", "1s")
    publish(job, topic_names("plant.1"), "one")
    worker = job.worker()
    assert wait_until(lambda: scored(job).get("one", 0) > 0, every_s=0.5), job.log_of(worker)
    assert "missing" in job.run("subscribe", "missing", code=2)
