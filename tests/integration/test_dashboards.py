"""Every Flux query of the dashboards, on a real store with data written by the product's sink."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from stream_ad_connectors.influxdb.store import InfluxStore

from stream_ad.records import AlertState, Outputs
from stream_ad.settings import InfluxSettings, Settings
from tests.support.docker_files import dashboards, queries
from tests.support.services.influxdb import Influx, create_bucket, delete_bucket
from tests.support.sink_samples import STEP_NS, SinkPromises, alert, batch, status

LOUD, CALM, NEW = 'pump "1", hall 2', "pump-2", "pump-3"
SLOTS = 1800
CHANNELS = ("flow", 'p "in"')
FLUX = [(name, where, text) for name, one in dashboards().items() for where, text in queries(one, "influxdb")]


class Grafana:
    """Replaces variables as Grafana does: the period, the bucket, and variables in double quotes, escaped."""

    def __init__(self, store: Influx) -> None:
        now_s = int(time.time())
        self.start_ns, self.stop_ns = (now_s - SLOTS) * STEP_NS, now_s * STEP_NS
        self.store = store
        self.client: Any = InfluxDBClient(store.url, store.token, org=store.org, timeout=240_000)

    def rows(self, flux: str) -> list[dict[str, Any]]:
        period = {"Start": self.start_ns, "Stop": self.stop_ns}
        for end, time_ns in period.items():
            moment = datetime.fromtimestamp(time_ns / 1e9).astimezone().isoformat()
            flux = flux.replace(f"v.timeRange{end}", f"{moment}")
        flux = flux.replace("v.windowPeriod", "10s").replace("v.defaultBucket", f'"{self.store.bucket}"')
        for name, values in {"series": [LOUD], "channel": list(CHANNELS)}.items():
            one = '"{}"'.format(values[-1].replace('"', '\\"'))
            every = ", ".join('"{}"'.format(value.replace('"', '\\"')) for value in values)
            flux = flux.replace(f"[${{{name}:doublequote}}]", f"[{every}]").replace(f"${{{name}:doublequote}}", one)
        assert "$" not in flux
        assert not re.search(r"\bv\.[a-z]", flux)
        return [record.values for table in self.client.query_api().query(flux) for record in table.records]

    def panel(self, board: str, where: str) -> list[dict[str, Any]]:
        (flux,) = [text for name, place, text in FLUX if (name, place) == (board, where)]
        return self.rows(flux)


@pytest.fixture(scope="module")
def grafana(influx: Influx) -> Iterator[Grafana]:
    """Half an hour of two series, one that ends over its threshold, and an alert in each of its states."""
    shown = Grafana(create_bucket(influx, f"dashboards-{time.time_ns()}"))
    store = shown.store
    settings = Settings(influxdb=InfluxSettings(url=store.url, org=store.org, bucket=store.bucket, token=store.token))
    sink = InfluxStore(settings)
    promises = SinkPromises(prefix="", start_ns=shown.start_ns)
    times = [promises.time_ns(slot) for slot in range(SLOTS)]
    quiet = np.full(SLOTS, 0.25)
    loud = quiet.copy()
    loud[700], loud[-1] = 9.5, 3.0
    scores = [
        replace(batch(LOUD, times, CHANNELS, missing=True), score=loud),
        replace(batch(CALM, times, CHANNELS, seed=1), score=quiet),
    ]
    alerts = [
        alert(promises, "open", LOUD, AlertState.OPEN, slot=SLOTS - 1),
        alert(promises, "over", LOUD, AlertState.RESOLVED, slot=700, length=20),
        alert(promises, "withdrawn", LOUD, AlertState.WITHDRAWN, slot=300),
    ]
    statuses = [status(LOUD, SLOTS), status(CALM, SLOTS), status(NEW, 3)]
    sink.write(Outputs(scores=scores, alerts=alerts, statuses=statuses))
    sink.close()
    yield shown
    shown.client.close()
    delete_bucket(store)


@pytest.mark.parametrize(("board", "where", "flux"), FLUX, ids=[f"{name}: {where}" for name, where, _ in FLUX])
def test_every_query_returns_rows(grafana: Grafana, board: str, where: str, flux: str) -> None:
    assert grafana.rows(flux), f"{board}, {where}: no rows"


def test_the_overview_shows_what_was_written(grafana: Grafana) -> None:
    states = {row["state"]: row["series"] for row in grafana.panel("overview", "Series by state A")}
    assert states == {"scoring": 2, "filling": 1}
    (over,) = grafana.panel("overview", "Series over their threshold A")
    assert over["_value"] == 1
    (worst,) = grafana.panel("overview", "Scores over the threshold A")
    assert (worst["series"], worst["score"]) == (LOUD, 3.0)
    hours = grafana.panel("overview", "Alerts per hour A")
    assert sum(row["_value"] for row in hours) == 2, "one open, one over; the withdrawn one does not count"
    assert max(row["score"] for row in grafana.panel("overview", "Highest score of all series A")) == 9.5


def test_open_alerts_exclude_ended_ones(grafana: Grafana) -> None:
    tables = [text for name, where, text in FLUX if (name, where) == ("overview", "Open alerts A")]
    count, listed = (grafana.rows(text) for text in sorted(tables, key=len))
    assert count[0]["_value"] == 1
    assert [(row["series"], row["severity"], row["channel_first"]) for row in listed] == [
        (LOUD, "warning", "Druck, bar=1")
    ]


def test_a_series_is_shown_with_its_peaks_and_its_alerts(grafana: Grafana) -> None:
    scores = grafana.panel("series", "Score A")
    assert len(scores) < SLOTS / 5
    assert max(row["score"] for row in scores) == 9.5
    assert {row["_value"] for row in grafana.panel("series", "variable series")} == {LOUD, CALM}
    assert {row["_value"] for row in grafana.panel("series", "variable channel")} == set(CHANNELS)
    assert {row["channel"] for row in grafana.panel("series", "What drives the score A")} == set(CHANNELS)
    marked = sorted(grafana.panel("series", "annotation Alerts"), key=lambda row: row["time"])
    assert [(row["title"], row["id"]) for row in marked] == [("score critical", "over"), ("score warning", "open")]
    assert [(row["timeEnd"] - row["time"]).total_seconds() for row in marked] == [20, 1]
