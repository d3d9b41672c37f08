"""Telegraf JSON, line protocol and single readings by config alone; hostile bytes become dead letters."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.errors import ConfigError
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.runtime.replay import Encoder
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import DetectorSettings, Subscription

TELEGRAF = (
    b'{"name": "cpu", "tags": {"host": "a", "core": "0"}, "timestamp": 1700000000,'
    b' "fields": {"load": 0.5, "up": true, "state": "ok"}}'
)
LINES = b'# a comment\ncpu,host=a,core=0 load=0.5,up=t,state="o, k" 1700000000\nroom\\ 1 t=21i 1700000001\n'
SAMPLES = {"telegraf": TELEGRAF, "line": LINES, "sensor": b'{"series": "s", "time": 1, "sensor": "a", "value": 1}'}


def decode(form, value):
    decoder = Decoder(Subscription(topic="t", format=form, time_unit="s"), DetectorSettings())
    return decoder.decode(SourceRecord(SourcePosition("t", 0, 0), 0, None, value))


def plain(observation):
    return observation.series, observation.event_time_ns, dict(observation.values)


FIRST = ("cpu,core=0,host=a", 1_700_000_000 * 10**9, {"load": 0.5, "up": 1.0})


@pytest.mark.parametrize("value", [TELEGRAF, b'{"metrics": [' + TELEGRAF + b"]}", b"[" + TELEGRAF + b"]"])
def test_telegraf(value):
    observations, dead_letters = decode("telegraf", value)
    assert ([plain(o) for o in observations], dead_letters) == ([FIRST], [])


def test_lines():
    observations, dead_letters = decode("line", LINES)
    assert dead_letters == []
    assert [plain(o) for o in observations] == [FIRST, ("room 1", 1_700_000_001 * 10**9, {"t": 21.0})]


def test_one_sensor_a_message():
    subscription = Subscription(topic="t", format="sensor", channel_field="tag", series_field="machine", time_unit="s")
    decoder = Decoder(subscription, DetectorSettings())
    value = b'{"machine": "m1", "tag": "rpm", "value": 3, "time": 1700000000, "quality": "good"}'
    for key, body in ((None, value), (b"m1", value.replace(b'"machine": "m1", ', b""))):
        observations, dead_letters = decoder.decode(SourceRecord(SourcePosition("t", 0, 0), 0, key, body))
        assert dead_letters == []
        assert [plain(o) for o in observations] == [("m1", 1_700_000_000 * 10**9, {"rpm": 3.0})]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"series": "s", "time": 1, "value": 1}', "missing_field"),
        (b'{"series": "s", "time": 1, "sensor": "a"}', "missing_field"),
        (b'{"series": "s", "time": 1, "sensor": 5, "value": 1}', "wrong_type"),
        (b'{"series": "s", "time": 1, "sensor": "a", "value": "x"}', "wrong_type"),
        (b'{"series": "s", "sensor": "a", "value": 1}', "missing_field"),
        (b"5", "wrong_type"),
    ],
)
def test_a_message_without_a_reading_is_a_dead_letter(value, reason):
    observations, dead_letters = decode("sensor", value)
    assert not observations
    assert [dead_letter.reason for dead_letter in dead_letters] == [reason]


@pytest.mark.parametrize("line", [b"cpu", b"cpu load=x 1", b"cpu load=1 soon", b"cpu load=1", b'cpu s="a" 1', b"#"])
def test_a_bad_line_is_a_dead_letter(line):
    observations, dead_letters = decode("line", line)
    assert not observations
    assert len(dead_letters) == 1


@pytest.mark.parametrize("form", SAMPLES)
@given(data=st.data())
def test_hostile_bytes_never_raise(form, data):
    sample = SAMPLES[form]
    cut = data.draw(st.integers(0, len(sample)))
    for value in (data.draw(st.binary()), sample[:cut] + data.draw(st.binary(max_size=8)) + sample[cut:]):
        observations, dead_letters = decode(form, value)
        assert observations or dead_letters


def test_contradicting_fields_are_config_errors():
    with pytest.raises(ConfigError, match="values_field"):
        Decoder(Subscription(topic="t", format="line", values_field=""), DetectorSettings())
    with pytest.raises(ConfigError, match="must differ"):
        Decoder(Subscription(topic="t", format="sensor", channel_field="time"), DetectorSettings())
    with pytest.raises(ConfigError, match="writes JSON only"):
        Encoder(Subscription(topic="t", format="line"))


def test_the_documented_records_decode():
    """Each record of docs/payloads.md under the subscription above it."""
    text = (Path(__file__).parents[3] / "docs" / "payloads.md").read_text(encoding="utf-8")
    decoder, read = None, 0
    for kind, body in re.findall(r"```(toml|json|text)\n(.*?)```", text, re.DOTALL):
        if kind == "toml":
            (subscription,) = tomllib.loads(body)["subscription"]
            if "schema_file" in subscription:  # test_schemas.py reads these
                continue
            decoder = Decoder(Subscription(**subscription), DetectorSettings())
            continue
        observations, dead_letters = decoder.decode(SourceRecord(SourcePosition("t", 0, 0), 0, None, body.encode()))
        assert dead_letters == []
        assert all(o.event_time_ns // 10**9 - 1_767_225_600 in (0, 1) for o in observations)
        read += len(observations)
    assert read == 8
