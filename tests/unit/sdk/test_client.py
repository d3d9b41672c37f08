"""The client over the embedded store; what needs a broker is in tests/integration/test_cli_kafka.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stream_ad_connectors.sqlite.store import SqliteStore

import stream_ad.sdk.client as module
from stream_ad import Client
from stream_ad.errors import ConfigError, DataError
from stream_ad.records import Alert, AlertState, Outputs
from stream_ad.settings import KafkaSettings, Settings, StoreSettings, Subscription
from tests.support.sink_samples import SinkPromises, alert, batch

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
NAMES = SinkPromises(prefix="")


@pytest.fixture(name="settings")
def fixture_settings(tmp_path: Path) -> Settings:
    return Settings(store=StoreSettings(path=tmp_path / "store.db"))


@pytest.fixture(name="store")
def fixture_store(settings: Settings) -> Iterator[SqliteStore]:
    store = SqliteStore(settings.store.path)
    yield store
    store.close()


def test_scores(settings: Settings, store: SqliteStore) -> None:
    one = batch("s", [START + i * SECOND for i in range(4)], missing=True, alert_id="x")
    two = batch("s", [START + i * SECOND for i in range(4, 6)], ("b", "c"), model_version="v2")
    store.write(Outputs(scores=[one, two]))
    with Client(settings) as client:
        frame = client.scores("s")
        assert list(frame) == ["score", "severity", "revision", "alert_id", "model_version"]
        assert str(frame.index.dtype) == "datetime64[ns, UTC]"
        assert frame.index.name == "time"
        np.testing.assert_array_equal(frame["score"], np.concatenate([one.score, two.score]))
        assert list(frame["model_version"]) == ["v1"] * 4 + ["v2"] * 2
        detail = client.scores("s", START + SECOND, START + 5 * SECOND, channels=True)
        assert len(detail) == 4
        assert {c.partition(".")[0] for c in detail} >= {"value", "expected", "lower", "upper", "attribution"}
        assert detail["value.c"].isna().tolist() == [True, True, True, False]
        assert len(client.scores("s", datetime(2023, 11, 14, 22, 13, 22, tzinfo=UTC))) == 4
        assert len(client.scores("s", "2023-11-14T22:13:22Z")) == 4


def test_no_scores_is_an_empty_frame(settings: Settings) -> None:
    with Client(settings) as client:
        frame = client.scores("nobody", "-1h")
        assert (len(frame), str(frame.index.dtype)) == (0, "datetime64[ns, UTC]")
        assert pd.concat([frame, frame]).empty
        with pytest.raises(ConfigError, match="start: expected a time"):
            client.scores("nobody", "soon")


def test_alerts(settings: Settings, store: SqliteStore) -> None:
    stored = [alert(NAMES, name, name, AlertState.OPEN) for name in ("a", "b")]
    store.write(Outputs(alerts=stored))
    with Client(settings) as client:
        assert list(client.alerts()) == stored
        assert list(client.alerts("b")) == stored[1:]
        assert list(client.alerts(start="-1h")) == []
        frame = client.alert_frame()
        assert [str(kind) for kind in (frame.index.dtype, frame["likely_start"].dtype)] == ["datetime64[ns, UTC]"] * 2
        assert frame.index.asi8.tolist() == [one.start_ns for one in stored]
        assert list(frame["id"]) == [one.id for one in stored]
        assert list(frame["channel"]) == [one.channels[0].channel for one in stored]
        assert frame["end"].isna().all()
        assert list(client.alert_frame("b")["series"]) == ["b"]
        empty = client.alert_frame(start="-1h")
        assert (len(empty), list(empty), str(empty.index.dtype)) == (0, list(frame), "datetime64[ns, UTC]")


def test_alert_events_of_the_embedded_store(
    settings: Settings, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    old = alert(NAMES, "old", "s", AlertState.OPEN)
    store.write(Outputs(alerts=[old]))
    with Client(settings) as client:
        coming = client.alerts(follow=True)
        with_past = client.alerts(start=0, follow=True)
        assert next(with_past) == old
        new = alert(NAMES, "new", "s", AlertState.OPEN)
        done = replace(old, state=AlertState.RESOLVED, updated_ns=old.updated_ns + 1)
        got: list[Alert] = []
        reader = threading.Thread(target=lambda: got.extend([next(coming), next(coming)]))
        reader.start()
        store.write(Outputs(alerts=[new, done]))
        reader.join(5)
        assert sorted(got, key=lambda a: a.id) == sorted([new, done], key=lambda a: a.id)


def test_without_a_broker(settings: Settings) -> None:
    with Client(settings) as client:
        with pytest.raises(ConfigError, match="publishing needs a broker"):
            client.publish("t", "s", {"a": 1.0})
        with pytest.raises(ConfigError, match="subscribing needs a broker"):
            client.subscribe("t")
        with pytest.raises(DataError, match="at least one reading"):
            client.publish("t", "s", {})


class _Publisher:
    sent: list[tuple[str, bytes, bytes, int]]

    def __init__(self, settings: KafkaSettings) -> None:
        self.sent = sent

    def send(self, *record: object) -> None:
        self.sent.append(record)  # type: ignore[arg-type]

    def flush(self) -> None: ...
    def close(self) -> None:
        sent.append(("closed", b"", b"", 0))


sent: list[tuple[str, bytes, bytes, int]] = []


def test_publish(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad_connectors.kafka.publisher.KafkaPublisher", _Publisher)
    monkeypatch.setattr("stream_ad.sdk.client.resolve_subscriptions", lambda settings: settings)  # nothing at run time
    sent.clear()
    known = Subscription(topic="known", time_unit="ms")
    ready = settings.model_copy(update={"kafka": KafkaSettings(bootstrap="nowhere:1"), "subscription": (known,)})
    with Client(ready) as client:
        client.publish("known", "s", {"a": 1, "b": None}, "1970-01-01T00:00:01Z")
        client.publish("other", "s", {"a": 1.5}, 1_500_000_000)
        client.publish("known", "s", {"a": 1.0})
    assert sent[0][:3] == ("known", b"s", b'{"series":"s","time":1000,"values":{"a":1.0,"b":null}}')
    assert sent[1][2] == b'{"series":"s","time":"1970-01-01T00:00:01.500000000Z","values":{"a":1.5}}'
    assert sent[-1][0] == "closed"


def test_config_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Client().settings.kafka.bootstrap is None
    (tmp_path / "x.toml").write_text("[kafka]\nbootstrap = 'b:1'\n")
    assert Client("x.toml").settings.kafka.bootstrap == "b:1"
    with pytest.raises(ConfigError):
        Client(tmp_path / "missing.toml")


def test_a_long_range_is_thinned_paged_or_refused(
    settings: Settings, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = batch("s", [START + i * SECOND for i in range(12_000)])
    whole.score[7777] = 99.0
    store.write(Outputs(scores=[whole]))
    with Client(settings) as client:
        thin = client.scores("s", max_points=100)
        assert list(thin) == ["score", "severity"]
        assert len(thin) <= 100
        assert (thin["score"].idxmax().value, thin["score"].max()) == (START + 7777 * SECOND, 99.0)
        assert thin["severity"].iloc[int(np.argmax(thin["score"]))] == "critical"
        assert client.scores("nobody", max_points=100).empty
        pages = list(client.score_pages("s", START + SECOND))
        assert len(pages) > 1
        pd.testing.assert_frame_equal(pd.concat(pages), client.scores("s", START + SECOND))
        with pytest.raises(ConfigError, match="the score alone"):
            client.scores("s", max_points=100, channels=True)
        with pytest.raises(DataError, match="at least 2, found 0"):
            client.scores("s", max_points=0)
        monkeypatch.setattr("stream_ad.sdk.frames.MAX_SLOTS_WITH_CHANNELS", 11_999)
        assert len(client.scores("s")) == 12_000
        with pytest.raises(DataError, match=r"at most 11999 slots with channels at once, found 12000 .* max_points"):
            client.scores("s", channels=True)
