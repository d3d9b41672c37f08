"""Time on the real path: what order, repetition, gaps, rates and wrong clocks do to the store's final contents.

Each case is a separate series with the same readings, compared with the series sent in order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr
from stream_ad_connectors.influxdb.store import InfluxStore
from stream_ad_connectors.kafka.publisher import KafkaPublisher

from stream_ad.records import ScoreBatch
from stream_ad.settings import InfluxSettings, KafkaSettings, Settings
from tests.support.jobs import START_NS, Job
from tests.support.services.influxdb import Influx, create_bucket, delete_bucket

ROWS, TRAIN = 320, 600
GAP = range(120, 140)
SLOW = range(200, 240)  # there every second row only
HOUR_MS = 3_600_000
Sent = tuple[float, dict[str, float | None]]  # seconds after START, readings


def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    steps = np.arange(TRAIN + ROWS)
    frame = pd.DataFrame({"a": np.sin(steps / 8), "b": np.cos(steps / 15)}) + 0.1 * rng.normal(size=(len(steps), 2))
    frame.loc[TRAIN + 250 : TRAIN + 262, "b"] += 4
    return frame.astype(np.float32).round(4)


def rows() -> list[Sent]:
    records = table()[TRAIN:].to_dict("records")
    return [(float(at), {str(k): float(v) for k, v in row.items()}) for at, row in enumerate(records)]


def late() -> list[Sent]:
    """One channel's readings of 100 ... 104 come 80 slots late: within the 256 that may be revised."""
    all_rows = rows()
    first: list[Sent] = [(at, {"a": values["a"]}) for at, values in all_rows[100:105]]
    return [*all_rows[:100], *first, *all_rows[105:185], *all_rows[100:105], *all_rows[185:]]


def repeated() -> list[Sent]:
    """A wrong reading, then the right one at the same time: the last one counts."""
    return [one for at, values in rows() for one in ((at, dict.fromkeys(values, 99.0)), (at, values))]


def swapped() -> list[Sent]:
    all_rows = rows()
    return [all_rows[i ^ 1] for i in range(ROWS)]


def one_by_one() -> list[Sent]:
    return [(at, {channel: value}) for at, values in rows() for channel, value in values.items()]


def jittered() -> list[Sent]:
    """The first two are exact: they set the grid."""
    offsets = np.random.default_rng(4).uniform(-0.4, 0.4, ROWS)
    return [(at if at < 2 else at + offset, values) for (at, values), offset in zip(rows(), offsets, strict=True)]


def gap() -> list[Sent]:
    return [one for i, one in enumerate(rows()) if i not in GAP]


def nothing_in_gap() -> list[Sent]:
    return [(at, dict.fromkeys(values) if i in GAP else values) for i, (at, values) in enumerate(rows())]


def rates() -> list[Sent]:
    """Twice a second, then once, then every second slot, then once again."""
    fast = [(at - 0.5, dict.fromkeys(values, 99.0)) for at, values in rows()[10:100]]
    return sorted([*slow(), *fast], key=lambda one: one[0])


def slow() -> list[Sent]:
    return [one for i, one in enumerate(rows()) if i not in SLOW or i % 2 == 0]


CASES: dict[str, Callable[[], list[Sent]]] = {
    "ordered": rows,
    "late": late,
    "too late": rows,
    "skewed": rows,
    "repeated": repeated,
    "swapped": swapped,
    "one by one": one_by_one,
    "jittered": jittered,
    "gap": gap,
    "nothing in gap": nothing_in_gap,
    "rates": rates,
    "slow": slow,
}
EXPECTED = dict.fromkeys(CASES, ROWS) | {"gap": ROWS - len(GAP), "rates": ROWS - 20, "slow": ROWS - 20}


@pytest.fixture(scope="module", name="job")
def fixture_job(tmp_path_factory: pytest.TempPathFactory, kafka: str, influx: Influx) -> Iterator[Job]:
    """All cases through one worker."""
    home = tmp_path_factory.mktemp("time")
    name = f"time-{time.time_ns()}"
    bucket = create_bucket(influx, name)
    job = Job(home / "job", kafka, bucket, name, name, environment={"STREAM_AD__DETECTOR__SCORER": "control"})
    job.init()
    try:
        job.run("fit", *histories(home), "--step", "1s")
        job.create_topic(2)
        publish(job)
        job.worker()
        job.wait_for_scores(EXPECTED)
        yield job
    finally:
        job.close()
        delete_bucket(bucket)


def histories(home: Path) -> list[str]:
    for name in CASES:
        table()[:TRAIN].to_parquet(home / f"{name}.parquet")
    return [str(home / f"{name}.parquet") for name in CASES]


def publish(job: Job) -> None:
    publisher = KafkaPublisher(KafkaSettings(bootstrap=job.kafka))

    def send(series: str, time_ms: int, values: dict[str, float | None]) -> None:
        body = {"series": series, "time": time_ms, "values": values}
        publisher.send(job.topic, series.encode(), json.dumps(body).encode())

    for name, case in CASES.items():
        for number, (at, values) in enumerate(case()):
            send(name, round(START_NS / 1e6 + at * 1000), values)
            if name == "skewed" and number % 100 == 50:
                send(name, time.time_ns() // 1_000_000 + HOUR_MS, {"a": 99.0})
    for row in range(3):
        send("too late", START_NS // 1_000_000 + row * 1000, {"a": 99.0, "b": 99.0})
    publisher.close()


@pytest.fixture(scope="module", name="stored")
def fixture_stored(job: Job) -> dict[str, pd.DataFrame]:
    influx = job.influx
    where = InfluxSettings(url=influx.url, org=influx.org, bucket=influx.bucket, token=SecretStr(influx.token))
    store = InfluxStore(Settings(influxdb=where))
    held = {name: ScoreBatch.merge(store.reader.scores(name, 0, 2**62, detail=False)) for name in CASES}
    store.close()
    return {
        name: pd.DataFrame({"score": one.score, "revision": one.revision, "alert_id": one.alert_id}, one.event_time_ns)
        for name, one in held.items()
    }


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("late", "ordered"),
        ("too late", "ordered"),
        ("skewed", "ordered"),
        ("repeated", "ordered"),
        ("swapped", "ordered"),
        ("one by one", "ordered"),
        ("jittered", "ordered"),
        ("gap", "nothing in gap"),
        ("rates", "slow"),
    ],
)
def test_final_contents_equal_those_of_data_in_order(stored: dict[str, pd.DataFrame], name: str, like: str) -> None:
    found, wanted = stored[name], stored[like]
    assert len(found) == EXPECTED[name]
    wanted = wanted.loc[found.index]
    assert np.allclose(found["score"], wanted["score"], rtol=1e-4, atol=0)
    assert np.array_equal(found["alert_id"] != "", wanted["alert_id"] != "")
    assert (found["alert_id"] != "").any()


def test_late_data_are_published_as_revisions(stored: dict[str, pd.DataFrame]) -> None:
    revised = stored["late"]["revision"].to_numpy()[100:105]
    assert (revised >= 1).all()
    assert (stored["late"]["revision"].to_numpy()[:60] == 0).all()


def test_readings_too_late_or_too_far_ahead_become_dead_letters(job: Job) -> None:
    listed = job.json("dlq", "list")
    assert listed["counts"] == {"late": 3, "future": 3}
    by_key = {(one["key"], one["reason"]) for one in listed["letters"]}
    assert by_key == {("too late", "late"), ("skewed", "future")}
    ahead = next(one["detail"] for one in listed["letters"] if one["reason"] == "future")
    assert "expected at most 5min ahead" in ahead
    late = next(one["detail"] for one in listed["letters"] if one["reason"] == "late")
    assert "expected at most 256 slots behind, found" in late
