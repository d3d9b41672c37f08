"""This release reads what the previous one stored: tests/fixtures/previous_release, see the README there.

TOLERANCE: other processors round the last digits differently.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.dead_letters import dead_letter_of
from stream_ad_connectors.kafka.source import KafkaSource

from stream_ad.notifications.dispatcher import NotificationDispatcher, Route
from stream_ad.notifications.outbox import Outbox
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import AssignmentListener, Checkpoint, ProfileStore, Scorer
from stream_ad.records import Notification, Outputs, SeriesStatus, SourcePosition, SourceRecord
from stream_ad.serde.alerts import alert_from_json
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import (
    DetectorSettings,
    KafkaSettings,
    ModelSettings,
    NotifyRoute,
    Settings,
    StoreSettings,
    Subscription,
)
from stream_ad.wiring import build_scorer, open_clock, open_dead_letters, open_profiles, open_store
from stream_ad.wiring.subscriptions import parse_subscription
from tests.contracts.check_scorer import raw_of, run
from tests.support.sink_samples import FAR_NS, batch, slots

FIXTURES = Path(__file__).parents[1] / "fixtures" / "previous_release"
TOLERANCE = 1e-6
# Without model versions: the name of a profile that is filled after the checkpoint depends on its last digits.
ALERT_FIELDS = (
    "id", "series", "rule", "state", "start_ns", "likely_start_ns", "detected_ns", "end_ns", "updated_ns", "peak_ns",
    "revision",
)  # fmt: skip
STATUS_FIELDS = ("series", "state", "slots_seen", "memory_slots", "first_score_ns", "last_score_ns", "open_alerts")


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def plain(content: object) -> Any:
    """The fixtures' form: NaN is null, bytes are base64."""
    return json.loads(msgspec.json.encode(content))


def same(found: Sequence[object], wanted: Sequence[Mapping[str, Any]]) -> bool:
    """The same objects in order; they may have new fields."""
    pairs = list(zip(plain(found), wanted, strict=True))
    return [{name: one.get(name) for name in old} for one, old in pairs] == [dict(old) for _, old in pairs]


def unpacked(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def scorer(name: str) -> Scorer:
    return build_scorer(Settings(detector=DetectorSettings(scorer=name)))


@pytest.fixture
def profiles(tmp_path: Path) -> ProfileStore:
    """The model store, as a copy."""
    folder = shutil.copytree(FIXTURES / "models", tmp_path / "models")
    return open_profiles(Settings(models=ModelSettings(url=str(folder))))


# ---- series states


def restarted(name: str, scorer_name: str, profiles: ProfileStore) -> tuple[Outputs, list[SeriesStatus]]:
    """Outputs of the records after the checkpoint, and the series' statuses then."""
    case = fixture(f"restart/{name}.json")
    lines = (FIXTURES / "restart" / f"{name}.jsonl").read_bytes().splitlines()
    records = [SourceRecord(SourcePosition(name, 0, n), case["timestamp_ns"], None, v) for n, v in enumerate(lines)]
    states = {series: base64.b64decode(state) for series, state in case["states"].items()}
    pipeline = Pipeline(Settings(**case["settings"]), scorer(scorer_name), profiles)
    begin = pipeline.assign(name, 0, states, Checkpoint(*case["checkpoint"]))
    assert begin == case["checkpoint"][1]
    out = pipeline.process(records[begin:])
    out.extend(pipeline.flush())
    return out, pipeline.statuses()


def score_columns(out: Outputs) -> dict[str, dict[str, list[Any]]]:
    """Series -> columns, in the order in which they came."""
    found: dict[str, dict[str, list[Any]]] = {}
    for one in out.scores:
        columns = found.setdefault(one.series, {"event_time_ns": [], "score": [], "revision": [], "alert_id": []})
        for name, column in columns.items():
            column.extend(np.asarray(getattr(one, name)).tolist())
    return found


def picked(rows: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> list[list[Any]]:
    """These fields of each row, sorted by series; rows of one series keep their order."""
    return [[row[name] for name in fields] for row in sorted(rows, key=lambda row: str(row["series"]))]


@pytest.mark.parametrize(
    ("name", "scorer_name"),
    [("universal", "universal"), ("parked", "universal"), ("control", "control"), ("control", "memory")],
)
def test_series_resume_from_a_checkpoint(name: str, scorer_name: str, profiles: ProfileStore) -> None:
    """From every kind of state (the README lists them), also with another scorer than the one that wrote it."""
    out, statuses = restarted(name, scorer_name, profiles)
    expected = fixture(f"restart/{name}.json")["expected"][scorer_name]
    scores = score_columns(out)
    assert scores.keys() == expected["scores"].keys()
    for series, columns in expected["scores"].items():
        assert scores[series].pop("score") == pytest.approx(columns.pop("score"), rel=TOLERANCE), series
        assert scores[series] == columns
    assert picked(plain(out.alerts), ALERT_FIELDS) == picked(expected["alerts"], ALERT_FIELDS)
    for found, alert in zip(plain(out.alerts), expected["alerts"], strict=True):
        assert found["peak_score"] == pytest.approx(alert["peak_score"], rel=TOLERANCE)
        assert [one["channel"] for one in found["channels"]] == [one["channel"] for one in alert["channels"]]
    assert [(one.record.position.offset, one.reason) for one in out.dead_letters] == [
        (one["record"]["position"]["offset"], one["reason"]) for one in expected["dead_letters"]
    ]
    assert picked(plain(statuses), STATUS_FIELDS) == picked(expected["statuses"], STATUS_FIELDS)


# ---- profiles


def test_profiles_are_loaded_by_name_and_by_pointer_and_score(profiles: ProfileStore) -> None:
    stored = fixture("profiles.json")
    rows = np.array(stored["rows"], dtype=np.float32)  # null becomes NaN
    scorers = {name: scorer(name) for name in ("universal", "control")}
    for one in stored["profiles"]:
        profile = profiles.load(one["series"], one["scorer"], one["version"])
        promoted = profiles.load(one["series"], one["scorer"])
        assert profile is not None
        facts = {name: plain(getattr(profile, name)) for name in one if name not in ("promoted", "raw")}
        assert facts == {name: one[name] for name in facts}
        assert (promoted is not None and promoted.version == one["version"]) is one["promoted"]
        scored = run(scorers[one["scorer"]], profile.fitted.arrays, rows[:, : len(profile.channels)])
        assert raw_of(scored).tolist() == pytest.approx(one["raw"], rel=TOLERANCE)
    for name in scorers:
        wanted = {one["series"] for one in stored["profiles"] if one["scorer"] == name and one["promoted"]}
        assert profiles.series(name) == sorted(wanted)


# ---- the embedded store


def test_the_embedded_store_is_read_and_written(tmp_path: Path) -> None:
    stored = fixture("store.json")
    settings = Settings(store=StoreSettings(path=shutil.copy(FIXTURES / "store.db", tmp_path / "store.db")))
    store, dead_letters = open_store(settings), open_dead_letters(settings)
    assert store.scores.score_counts() == stored["counts"]
    for series, wanted in stored["scores"].items():
        assert plain(slots(store.scores.scores(series, 0, FAR_NS))) == wanted
        extent = store.scores.score_extent(series, 0, FAR_NS)
        assert extent is not None
        assert (extent.slots, extent.first_ns, extent.last_ns) == (len(wanted), wanted[0][0], wanted[-1][0])
        trace = store.scores.score_trace(series, 0, FAR_NS, max_points=100)
        assert trace.score.tolist() == [slot["score"] for _, slot in wanted]
    assert same(store.alerts.alerts(None, 0, FAR_NS), stored["alerts"])
    assert same([store.alerts.alert(one["id"]) for one in stored["alerts"]], stored["alerts"])
    assert same(store.statuses.statuses(), stored["statuses"])
    assert same(list(dead_letters.read_dead_letters()), stored["dead_letters"])
    (first, second, *_), newer = stored["scores"]["pump 1"], batch("pump 1", [FAR_NS - 1], seed=9)
    store.sink.write(Outputs(scores=[newer]))
    assert store.scores.score_counts() == stored["counts"] | {"pump 1": stored["counts"]["pump 1"] + 1}
    assert plain(slots(store.scores.scores("pump 1", first[0], second[0]))) == [first]
    assert slots(store.scores.scores("pump 1", FAR_NS - 1, FAR_NS)) == slots([newer])
    dead_letters.close()
    store.sink.close()


# ---- topics


def test_alerts_of_the_topic() -> None:
    stored = fixture("topics.json")["alerts"]
    assert same([alert_from_json(one["value"]) for one in stored], [one["read"] for one in stored])
    assert {one["read"]["state"] for one in stored} == {"open", "update", "resolved", "withdrawn"}


def test_dead_letters_of_the_topic() -> None:
    stored = fixture("topics.json")["dead_letters"]
    found = [
        dead_letter_of(
            [(name, text.encode()) for name, text in one["headers"]], unpacked(one["key"]), unpacked(one["value"])
        )
        for one in stored
    ]
    assert same(found, [one["read"] for one in stored])
    assert not found[-1].whole


def test_subscriptions_of_the_topic() -> None:
    for one in fixture("topics.json")["subscriptions"]:
        found = parse_subscription(one["value"].encode())
        assert found.topic == one["key"]
        assert {name: found.model_dump(mode="json")[name] for name in one["read"]} == one["read"]


async def test_committed_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = fixture("topics.json")["commits"]
    found = {
        ("plant", one["partition"]): SimpleNamespace(offset=one["offset"], metadata=one["metadata"]) for one in stored
    }
    monkeypatch.setattr(KafkaAdmin, "committed", lambda self, pairs: found)
    source = KafkaSource(KafkaSettings(bootstrap="localhost:9092"), ["plant"])
    for one in stored:
        assert await source.committed("plant", one["partition"]) == Checkpoint(*one["read"])


def test_published_observations() -> None:
    for one in fixture("topics.json")["observations"]:
        decoder = Decoder(Subscription(topic="plant", **one["fields"]), DetectorSettings())
        record = SourceRecord(SourcePosition("plant", 0, 0), one["read"]["event_time_ns"], None, one["value"].encode())
        (found,), dead_letters = decoder.decode(record)
        assert not dead_letters
        assert plain(found) == one["read"]
        assert math.isnan(found.values["b c"])


class AlertsTopic:
    """ports.Source over the stored alerts; the notifier's commit is the last of the stored commits."""

    def __init__(self) -> None:
        stored = fixture("topics.json")
        self.begin, self.replay_from, note = stored["commits"][-1]["read"]
        self.checkpoint = Checkpoint(self.begin, self.replay_from, note)
        values = [one["value"].encode() for one in stored["alerts"]]
        self.polls = [[SourceRecord(SourcePosition("alerts", 0, n), 1, None, v) for n, v in enumerate(values)]]

    async def start(self, listener: AssignmentListener) -> None:
        assert await listener.assigned("alerts", 0) == self.replay_from

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        return self.polls.pop() if self.polls else None

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        self.checkpoint = checkpoints["alerts", 0]

    async def owns_partitions(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return self.checkpoint

    async def stop(self) -> None: ...


class Receiver:
    """ports.Notifier."""

    service = "test"

    def __init__(self) -> None:
        self.messages: list[Notification] = []

    def send(self, notification: Notification) -> None:
        self.messages.append(notification)


async def test_the_notifier_resumes_at_its_routes_offsets() -> None:
    """Only alerts after the committed offsets are sent, in one message."""
    source, receiver = AlertsTopic(), Receiver()
    await NotificationDispatcher(
        source, [Route(Outbox(NotifyRoute(name="team")), receiver)], alert_from_json, open_clock()
    ).run()
    (message,) = receiver.messages
    starts = [json.loads(one["value"])["start"][:19] for one in fixture("topics.json")["alerts"]]
    assert {start for start in starts if start in message.text} == set(starts[source.begin :])
    assert source.checkpoint.next_offset == len(starts)
