"""Names with injection attempts, from Kafka through a worker into InfluxDB and back by a query."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_ad_connectors.influxdb.store import InfluxStore
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad import Client, wiring
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.records import Outputs
from stream_ad.runtime.consumer_loop import ConsumerLimits, ConsumerLoop
from stream_ad.settings import (
    DetectorSettings,
    InfluxSettings,
    KafkaSettings,
    ModelSettings,
    Settings,
    Subscription,
)
from tests.support.fakes import LevelScorer
from tests.support.services.influxdb import Influx
from tests.support.sink_samples import START_NS, batch

FAR_NS = 2**62
ACCEPTED = (
    "a,b",
    " a b ",
    "a=b",
    'a"b',
    "a'b",
    "a\\",
    "a\\ b",
    "\\,x=1",
    "{x}",
    "${bucket}",
    '") |> drop(columns: ["series"]) //',
    '" or true or r.series == "',
    "a,series=forged score=9 9",
    "score,series=forged",
    "#comment",
    "%d%s%%",
    "'; drop table scores; --",
    "../../etc/passwd",
    "\u00e4\u00f6\u00fc\u6f22\U0001f600\u202e",
    "\u241b",
    "true",
    "_measurement",
    "n" * 256,
)
REFUSED = ("", "a\nscore,series=forged score=9 9", "a\r", "a\tb", "a\0b", "\x1b[31m", "a\u2028b", "\x85", "n" * 257)
SLOTS = 40


def records(name: str) -> list[dict[str, object]]:
    """A series and its channel, both with this name."""
    start_ms = START_NS // 1_000_000
    return [{"series": name, "time": start_ms + 1000 * i, "values": {name: float(i % 3)}} for i in range(SLOTS)]


async def test_names_are_never_interpreted_on_the_real_path(
    kafka: str, influx_bucket: Influx, namespace: str, topic_names: Callable[[str], str], tmp_path: Path
) -> None:
    topic = topic_names("in")
    made = Settings(
        kafka=KafkaSettings(bootstrap=kafka, namespace=namespace, group=namespace, session_timeout_s=6),
        subscription=(Subscription(topic=topic, step="1s"),),
        influxdb=InfluxSettings(**vars(influx_bucket)),
        detector=DetectorSettings(silence="1s", max_ahead="9999D"),
        models=ModelSettings(url=str(tmp_path / "models")),
    )
    admin_topic(made, topic)
    publisher = KafkaPublisher(made.kafka)
    for row in zip(*map(records, ACCEPTED), strict=True):
        publisher.send(topic, None, json.dumps(row).encode())
    for name in REFUSED:
        publisher.send(topic, None, json.dumps({**records("s")[0], "series": name}).encode())
        publisher.send(topic, None, json.dumps({**records("s")[0], "values": {name: 1}}).encode())
    publisher.close()

    store = wiring.open_store(made)
    source, states = wiring.open_source(made)
    scorer: Any = LevelScorer()
    pipeline = Pipeline(made, scorer, wiring.open_profiles(made))
    seen = Outputs()
    sinks = list(wiring.open_sinks(made, store).values())
    loop = ConsumerLoop(source, pipeline, sinks, states, wiring.open_clock(), ConsumerLimits(deliver_s=0.1))

    def collect(outputs: Outputs) -> None:
        seen.extend(outputs)
        if {one.series for one in seen.scores} == set(ACCEPTED) and len(seen.dead_letters) >= 2 * len(REFUSED):
            loop.stop()

    loop.on_outputs = collect
    await loop.run()
    assert {one.reason for one in seen.dead_letters} == {"bad_name"}
    counts = store.scores.score_counts()
    loop.close()
    expected = {name: len({t for b in seen.scores if b.series == name for t in b.event_time_ns}) for name in ACCEPTED}
    assert counts == expected
    assert min(expected.values()) > 0
    with Client(made) as client:
        assert sorted(status.series for status in client._opened().statuses.statuses()) == sorted(ACCEPTED)
        for name in ACCEPTED:
            frame = client.scores(name, channels=True)
            assert len(frame) == expected[name]
            assert [c for c in frame.columns if c.startswith("value.")] == [f"value.{name}"]
        for name in REFUSED:
            assert client.scores(name).empty
        assert {alert.series for alert in client.alerts()} <= set(ACCEPTED)
        assert list(client.alerts('" or true or r.series != "')) == []


def admin_topic(made: Settings, topic: str) -> None:
    from stream_ad_connectors.kafka.admin import KafkaAdmin

    admin = KafkaAdmin(made.kafka)
    admin.create_topic(topic, 1)
    admin.close()
    wiring.prepare(made)


SIGNS = "a\\\",= '{}$%#()|>\u241b\u00e4\U0001f600"
PLAIN = st.characters(exclude_categories=["C", "Zl", "Zp"])
NAMES = st.text(st.sampled_from(SIGNS) | PLAIN, min_size=1, max_size=12)


@settings(deadline=None, max_examples=4, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=40, max_size=40, unique=True))
def test_any_name_round_trips(influx_bucket: Influx, tmp_path: Path, names: list[str]) -> None:
    """Forty names a write, as series and as channels; both stores."""
    influx = InfluxStore(Settings(influxdb=InfluxSettings(**vars(influx_bucket))))
    sqlite = SqliteStore(tmp_path / "store.db")
    batches = [batch(name, [START_NS], (name, "other")) for name in names]
    try:
        for store in (influx, sqlite):
            store.write(Outputs(scores=batches))
            assert {name: store.reader.score_counts().get(name) for name in names} == dict.fromkeys(names, 1)
            for one in batches[:5]:
                (found,) = store.reader.scores(one.series, 0, FAR_NS)
                assert sorted(found.channels) == sorted(one.channels)
                assert found.score.tolist() == one.score.tolist()
        assert set(influx.reader.score_counts()) == set(sqlite.reader.score_counts())
    finally:
        influx.close()
        sqlite.close()
