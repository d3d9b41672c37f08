"""The API and the pages over a store: pages, limits, thinning, names of any kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.errors import UnavailableError
from stream_ad.records import Outputs
from stream_ad.serde.alerts import alert_to_json
from stream_ad.service import api
from stream_ad.service.live_feed import Event, Feed
from stream_ad.timestamps import iso_utc
from stream_ad.wiring import open_store
from tests.support.service_store import (
    ALERTS,
    AWKWARD,
    PUMP,
    SLOTS,
    START_NS,
    S,
    fill,
    opened,
    scores,
    settings_with,
    status,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "store.sqlite"
    fill(path)
    return path


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[TestClient]:
    with opened(store, rate="100000 per 1s") as made:
        yield made


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"/api/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def scores_path(series: str) -> str:
    return f"/series/{quote(series, safe='/')}/scores"


@pytest.mark.parametrize("series", [PUMP, AWKWARD])
@pytest.mark.parametrize("limit", [1_000, 999, 2_500, 10_000])
def test_pages_of_scores_make_the_whole(client: TestClient, series: str, limit: int) -> None:
    wanted, found, start, pages = scores(series), [], None, 0
    while True:
        page = get(client, scores_path(series), limit=limit, **({"start": start} if start else {}))
        assert len(page["time"]) <= limit
        found += list(zip(page["time"], page["score"], page["alert_id"], strict=True))
        pages, start = pages + 1, page["next"]
        if start is None:
            break
    assert pages == -(-SLOTS // limit)
    times = [iso_utc(time_ns) for time_ns in wanted.event_time_ns.tolist()]
    assert found == list(zip(times, wanted.score.tolist(), wanted.alert_id, strict=True))


def test_channels_of_a_page(client: TestClient) -> None:
    page = get(client, scores_path(PUMP), channels=True, limit=10, stop=iso_utc(START_NS + 50 * S))
    assert (page["slots"], len(page["time"])) == (50, 10)
    wanted = scores(PUMP)
    assert page["channels"]["flow"]["value"][5] is None
    assert np.allclose(page["channels"]["pressure"]["value"], wanted.value[:10, 0])
    assert set(page["channels"]["flow"]) == {"value", "expected", "lower", "upper", "attribution"}
    assert set(get(client, scores_path(PUMP), channel=["flow", "none"], limit=3)["channels"]) == {"flow"}
    assert get(client, scores_path(PUMP), limit=3)["channels"] is None


def test_downsampling_keeps_the_peak(client: TestClient) -> None:
    line = get(client, scores_path(PUMP), max_points=50)
    assert line["thinned"]
    assert line["slots"] == SLOTS
    assert len(line["time"]) <= 50
    peak = line["score"].index(4.0)
    assert line["time"][peak] == iso_utc(START_NS + 1_700 * S)
    assert line["severity"][peak] == "critical"


def test_an_unknown_series_is_empty(client: TestClient) -> None:
    assert get(client, scores_path("nobody"))["time"] == []
    assert get(client, scores_path("nobody"), max_points=100)["slots"] == 0


@pytest.mark.parametrize(
    "query",
    [
        {"start": "yesterday"},
        {"limit": 0},
        {"limit": 100_000},
        {"max_points": 1},
        {"max_points": 100_000},
        {"max_points": 10, "channels": True},
    ],
)
def test_wrong_parameters_are_named(client: TestClient, query: dict[str, Any]) -> None:
    answer = client.get(f"/api/v1{scores_path(PUMP)}", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert next(iter(query)) in answer.text


def test_series_in_pages_and_by_pattern(client: TestClient) -> None:
    whole = get(client, "/series")
    assert [one["series"] for one in whole["series"]] == sorted([PUMP, AWKWARD, "new"])
    first = get(client, "/series", limit=2)
    rest = get(client, "/series", limit=2, after=first["next"])
    assert [one["series"] for one in first["series"] + rest["series"]] == [one["series"] for one in whole["series"]]
    assert rest["next"] is None
    (new,) = get(client, "/series", match="n*")["series"]
    assert (new["state"], new["ready_in_slots"], new["step_s"], new["last_score"]) == ("filling", 40, 1.0, None)


def test_alerts_newest_first_in_pages_and_by_kind(client: TestClient) -> None:
    assert [one["id"][0] for one in get(client, "/alerts")["alerts"]] == ["c", "b", "a"]
    first = get(client, "/alerts", limit=2)
    assert [one["id"][0] for one in get(client, "/alerts", before=first["next"])["alerts"]] == ["a"]
    assert [one["id"][0] for one in get(client, "/alerts", open=True)["alerts"]] == ["c"]
    assert [one["id"][0] for one in get(client, "/alerts", severity="warning")["alerts"]] == ["a"]
    assert [one["id"][0] for one in get(client, "/alerts", series=AWKWARD)["alerts"]] == ["b"]
    assert client.get("/api/v1/alerts", params={"before": "x"}).status_code == 422


def test_one_alert_is_the_document_of_the_topic(client: TestClient) -> None:
    found = get(client, f"/alerts/{ALERTS[2].id}")
    assert (found["series"], found["severity"], found["state"]) == (PUMP, "critical", "open")
    assert found["likely_start"] < found["start"]
    assert found["channels"][0] == {
        "channel": "pressure", "attribution": 0.8, "actual": 4.25, "expected": 3.0, "lower": 2.9, "upper": 3.1
    }  # fmt: skip
    assert found == json.loads(alert_to_json(ALERTS[2])), "the same as on the topic"
    assert client.get("/api/v1/alerts/none").status_code == 404
    assert client.get("/alerts/none").status_code == 404


def test_state_counts(client: TestClient) -> None:
    state = get(client, "/state")
    assert (state["series"], state["scoring"], state["open_alerts"], state["lag"]) == (3, 2, 1, None)
    assert state["profiles"] == {"auto-128": 2, "": 1}


def test_names_are_text_on_a_page(client: TestClient) -> None:
    page = client.get(f"/series/{quote(AWKWARD, safe='/')}").text
    assert "<i>" not in page
    assert "a/b &lt;i&gt; ü" in page


def test_requests_are_counted_by_route(store: Path) -> None:
    with opened(store, role="admin") as client:
        client.get(f"/api/v1{scores_path(PUMP)}")
        text = client.get("/metrics").text
    assert 'stream_ad_http_requests_total{route="/api/v1/series/{series:path}/scores",status="200"} 1.0' in text
    assert PUMP not in text


# ---- live


async def next_event(queue: asyncio.Queue[Event | None]) -> Event | None:
    return await asyncio.wait_for(queue.get(), 240)


async def test_live_events_and_missed_events(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    fill(path)
    settings = settings_with(path)
    writer, store = SqliteStore(path), open_store(settings)
    feed = Feed(settings, store, max_listeners=2)
    feed.start()
    try:
        with feed.listen() as queue:
            await asyncio.sleep(0)
            changed = asyncio.create_task(next_event(queue))
            for seen in count(1):  # the first look at the states is not a change
                writer.write(Outputs(statuses=[replace(status("new", False), slots_seen=seen)]))
                await asyncio.wait({changed}, timeout=0.7)
                if changed.done():
                    break
            event = changed.result()
            assert event is not None
            assert event.kind == "series"
            assert [one["series"] for one in event.data] == ["new"]
        with feed.listen() as queue:
            writer.write(Outputs(alerts=[replace(ALERTS[2], revision=7, updated_ns=ALERTS[2].updated_ns + S)]))
            event = await next_event(queue)
            while event is not None and event.kind != "alert":
                event = await next_event(queue)
            assert event is not None
            assert event.data["revision"] == 7
        with feed.listen(last_id="gone-5") as queue:
            assert (await next_event(queue)).kind == "reset"  # type: ignore[union-attr]
        with feed.listen(), feed.listen(), pytest.raises(UnavailableError), feed.listen():
            pass
        with feed.listen() as queue:
            feed.close()
            assert await next_event(queue) is None
    finally:
        feed.close()
        await asyncio.to_thread(feed.join)
        store.sink.close()
        writer.close()


def test_pages_with_channels_limit_their_readings(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_CELLS", 600)
    stop, start, sizes = iso_utc(START_NS + 1_000 * S), None, []
    while True:
        page = get(client, scores_path(PUMP), channels=True, stop=stop, **({"start": start} if start else {}))
        sizes.append(len(page["time"]))
        start = page["next"]
        if start is None:
            break
    assert sizes == [300, 300, 300, 100]
    assert len(get(client, scores_path(PUMP), channel="flow", stop=stop)["time"]) == 600
