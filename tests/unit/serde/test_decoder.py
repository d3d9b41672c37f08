"""Decoding: every shape that is an observation, every fault with its reason, and no bytes that break it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.errors import ConfigError, RecordError
from stream_ad.records import DeadLetter, Observation, SourcePosition, SourceRecord
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import DetectorSettings, Subscription, TimeUnit
from stream_ad.timestamps import event_time_ns
from tests.reference import scores as naive

NOW_NS = 1_700_000_000_000_000_000
NOW_MS = NOW_NS // 1_000_000


def record_of(value: bytes | None, key: bytes | None = None) -> SourceRecord:
    return SourceRecord(SourcePosition("t", 0, 7), NOW_NS, key, value)


def decoder(detector: DetectorSettings | None = None, **subscription: Any) -> Decoder:
    return Decoder(Subscription(topic="t", **subscription), detector or DetectorSettings())


def decode(
    payload: Any, key: bytes | None = None, using: Decoder | None = None
) -> tuple[list[Observation], list[DeadLetter]]:
    value = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return (using or decoder()).decode(record_of(value, key))


def row(**changes: Any) -> dict[str, Any]:
    return {"series": "m1", "time": NOW_MS, "values": {"a": 1.5, "b": 2}} | changes


def same(left: list[Observation], right: list[Observation]) -> bool:
    return repr(left) == repr(right)  # NaN equals NaN


def test_one_object() -> None:
    assert decode(row()) == ([Observation("m1", NOW_NS, {"a": 1.5, "b": 2.0})], [])


def test_unknown_fields_are_ignored_and_the_key_names_the_series() -> None:
    payload = {"time": NOW_MS, "values": {"a": 1}, "host": {"rack": [3]}}
    assert decode(payload, key="m-é".encode())[0] == [Observation("m-é", NOW_NS, {"a": 1.0})]


@pytest.mark.parametrize(
    "token",
    [
        "null",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "3.5e38",
        "-1e300",
        "1" + "0" * 40,
        "1" + "0" * 400,
        "9" * 6000,
    ],
)
def test_a_reading_that_is_not_finite_is_masked(token: str) -> None:
    value = b'{"series":"m1","time":%d,"values":{"a":%s,"b":2}}' % (NOW_MS, token.encode())
    observations, dead_letters = decode(value)
    assert not dead_letters
    assert math.isnan(observations[0].values["a"])
    assert observations[0].values["b"] == 2.0


def test_a_batch_keeps_valid_elements_and_names_the_others() -> None:
    batch = [row(), row(values={"a": "hot"}), row(time=NOW_MS + 1000), 5, row(time=True)]
    observations, dead_letters = decode(batch)
    assert [o.event_time_ns - NOW_NS for o in observations] == [0, 1_000_000_000]
    assert [x.reason for x in dead_letters] == ["wrong_type"]
    assert dead_letters[0].detail.startswith("element 1: channel 'a': expected a number or null, found text 'hot'")
    assert "2 more: element 3, element 4" in dead_letters[0].detail


def test_a_batch_of_many_bad_elements_yields_one_dead_letter_per_reason() -> None:
    observations, dead_letters = decode([row(values={})] * 1000 + [row(series="")])
    assert not observations
    assert [x.reason for x in dead_letters] == ["no_values", "bad_name"]
    assert all(len(x.detail) < 300 for x in dead_letters)


@pytest.mark.parametrize("nan", [False, True])
def test_columns(nan: bool) -> None:
    last = "NaN" if nan else "null"
    value = f'{{"series":"m1","times":[{NOW_MS},{NOW_MS + 1}],"values":{{"a":[1,2.5],"b":[3,{last}]}}}}'.encode()
    observations, dead_letters = decode(value)
    expected = [
        Observation("m1", NOW_NS, {"a": 1.0, "b": 3.0}),
        Observation("m1", NOW_NS + 1_000_000, {"a": 2.5, "b": math.nan}),
    ]
    assert same(observations, expected)
    assert not dead_letters


def test_one_bad_time_in_columns_costs_one_row() -> None:
    observations, dead_letters = decode({"series": "m1", "times": [NOW_MS, -1, NOW_MS], "values": {"a": [1, 2, 3]}})
    assert [o.values["a"] for o in observations] == [1.0, 3.0]
    assert (dead_letters[0].reason, dead_letters[0].detail[:6]) == ("bad_time", "row 1:")


FAULTS: list[tuple[Any, str, str]] = [
    (b"", "empty", "an empty value"),
    (b"  \n", "empty", "an empty value"),
    ([], "empty", "array of none"),
    (b"{", "broken_json", "found b'{'"),
    (b"\xff\xfe", "broken_json", "at byte 0"),
    (b'{"series":"m","time":%d,"values":{"a":1},"hos\xfft":1}' % NOW_MS, "broken_json", "at byte 56"),
    (b'{"s\xc3eries":"m","times":[%d],"values":{"a":[1]}}' % NOW_MS, "broken_json", "at byte 3"),
    (b"[" * 100_000, "broken_json", "nested too deep"),
    (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "broken_json", "nested too deep"),
    (5, "wrong_type", "expected an object, found 5"),
    (None, "wrong_type", "found null"),
    (row(values={}), "no_values", "'values'"),
    (row(values=None), "missing_field", "'values'"),
    (row(values=[1]), "wrong_type", "an array of 1 elements"),
    (row(values={"a": True}), "wrong_type", "found true"),
    (row(values={"a": "1.5"}), "wrong_type", "found text '1.5'"),
    (row(values={"a": {"b": 1}}), "wrong_type", "an object of 1 fields"),
    (row(values={"a": "x" * 500}), "wrong_type", "xxx..."),
    (row(values={"a": [1]}), "wrong_type", "an array"),
    (row(values={"": 1}), "bad_name", "an empty one"),
    (row(values={"a\n": 1}), "bad_name", "control"),
    (row(values={"\ud800": 1}), "bad_name", "control"),
    (row(values={"a" * 257: 1}), "bad_name", "257"),
    (row(values={str(i): 1 for i in range(1025)}), "too_many_channels", "1025"),
    (row(series=None), "missing_field", "'series'"),
    (row(series=5), "wrong_type", "expected text, found 5"),
    (row(series=""), "bad_name", "series name"),
    (row(time=None), "missing_field", "'time'"),
    (row(time=True), "wrong_type", "found true"),
    (row(time=[NOW_MS]), "wrong_type", "an array"),
    (row(time="yesterday"), "bad_time", "text 'yesterday'"),
    (row(time="1700000000000"), "bad_time", "ISO-8601"),
    (row(time=-1), "bad_time", "time_unit = 'ms'"),
    (row(time=NOW_NS), "bad_time", "check the unit"),
    (row(time=1e300), "bad_time", "1970..2261"),
    (b'{"series":"m","time":NaN,"values":{"a":1}}', "bad_time", "nan"),
    (row(time=10**30), "bad_time", "1970..2261"),
    (b'{"series":"m","time":' + b"9" * 4999 + b',"values":{"a":1}}', "bad_time", "inf"),
    (row(time=NOW_MS + 3_600_000), "future", "1:00:00 ahead"),
    ({"series": "m1", "times": [NOW_MS], "values": {"a": [1, 2]}}, "wrong_length", "expected 1 readings"),
    ({"series": "m1", "time": NOW_MS, "times": [NOW_MS], "values": {"a": [1]}}, "wrong_type", "'a'"),
    ({"series": "m1", "times": [NOW_MS], "values": {"a": 1}}, "wrong_type", "expected an array like the times"),
    ({"series": "m1", "times": NOW_MS, "values": {"a": [1]}}, "wrong_type", "'times'"),
    ({"series": "m1", "times": [], "values": {"a": []}}, "no_values", "'times'"),
]


@pytest.mark.parametrize(("payload", "reason", "words"), FAULTS)
def test_faults_name_the_reason_and_the_found_value(payload: Any, reason: str, words: str) -> None:
    observations, dead_letters = decode(payload)
    assert not observations
    assert [x.reason for x in dead_letters] == [reason]
    assert words in dead_letters[0].detail
    assert len(dead_letters[0].detail) < 400


def test_tombstone_and_size_and_key() -> None:
    assert decoder().decode(record_of(None))[1][0].reason == "empty"
    small = decoder(DetectorSettings(max_record_bytes=10))
    assert decode(row(), using=small)[1][0].reason == "too_large"
    assert decode(row(series=None), key=b"\xff")[1][0].reason == "bad_name"


LIMITS = DetectorSettings(max_record_bytes=400, max_channels=3, max_record_observations=4, max_name_chars=5)
WITHIN = (
    row(series="m" * 5, values={"\u00e4" * 5: 1, "b": 1, "c": 1}),
    [row()] * 4,
    {"series": "m", "times": [NOW_MS] * 4, "values": {"a": [1] * 4}},
)
BEYOND: tuple[tuple[Any, str, str], ...] = (
    ([row()] * 5, "too_many_observations", "detector.max_record_observations"),
    ([row(values={"a": float("nan")})] * 5, "too_many_observations", "found 5"),
    ({"series": "m", "times": [NOW_MS] * 5, "values": {"a": [1] * 5}}, "too_many_observations", "found 5"),
    ({"series": "m", "times": [NOW_MS + 0.5] * 5, "values": {"a": [1] * 5}}, "too_many_observations", "found 5"),
    (row(values=dict.fromkeys("abcd", 1)), "too_many_channels", "detector.max_channels"),
    ({"series": "m", "times": [NOW_MS], "values": {key: [1] for key in "abcd"}}, "too_many_channels", "found 4"),
    (row(series="m" * 6), "bad_name", "detector.max_name_chars"),
    (row(values={"a" * 6: 1}), "bad_name", "channel name: expected 1..5 characters"),
    ({"series": "m", "times": [NOW_MS], "values": {"a" * 6: [1]}}, "bad_name", "channel name"),
    (row(padding="x" * 400), "too_large", "at most 400 bytes"),
)


def test_records_just_within_the_limits_are_accepted() -> None:
    for payload in WITHIN:
        observations, dead_letters = decode(payload, using=decoder(LIMITS))
        assert observations, dead_letters
        assert not dead_letters


@pytest.mark.parametrize(("payload", "reason", "words"), BEYOND)
def test_records_beyond_a_limit_are_dead_letters(payload: Any, reason: str, words: str) -> None:
    observations, (dead_letter,) = decode(payload, using=decoder(LIMITS))
    assert not observations
    assert (dead_letter.reason, words in dead_letter.detail) == (reason, True), dead_letter.detail


def test_a_long_key_names_no_series() -> None:
    _, (dead_letter,) = decode(row(series=None), key=b"k" * 6, using=decoder(LIMITS))
    assert dead_letter.reason == "bad_name"


@pytest.mark.parametrize("opening", [b"[", b'{"series":', b'{"values":['])
def test_endless_nesting_is_a_dead_letter(opening: bytes) -> None:
    payload = b'{"series":"m","time":1,"values":{"a":' + opening * 60_000
    observations, (dead_letter,) = decode(payload)
    assert not observations
    assert dead_letter.reason in ("broken_json", "wrong_type")


def test_the_limit_ahead_is_inclusive_and_needs_a_record_time() -> None:
    assert decode(row(time=NOW_MS + 300_000))[0]
    assert decode(row(time=NOW_MS + 300_001))[1][0].reason == "future"
    without = SourceRecord(SourcePosition("t", 0, 7), -1, None, json.dumps(row()).encode())
    assert decoder().decode(without)[0]


def test_renamed_fields_and_flat_payloads() -> None:
    renamed = decoder(series_field="id", time_field="ts", values_field="data", time_unit="s")
    assert decode({"id": "m1", "ts": NOW_MS // 1000, "data": {"a": 1}}, using=renamed)[0][0].event_time_ns == NOW_NS
    flat = decoder(values_field="", time_field="ts")
    payload = {"ts": NOW_MS, "series": "m1", "temp": 3, "ok": True, "unit": "C", "rpm": math.nan, "tags": {"x": 1}}
    expected = Observation("m1", NOW_NS, {"temp": 3.0, "rpm": math.nan})
    assert same(decode(payload, using=flat)[0], [expected])
    assert decode({"ts": NOW_MS, "series": "m1", "ok": "x"}, using=flat)[1][0].reason == "no_values"


@pytest.mark.parametrize("fields", [{"series_field": "time"}, {"values_field": "a\nb"}])
def test_colliding_field_names_are_config_errors(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        decoder(**fields)


@pytest.mark.parametrize(
    ("time", "unit", "expected"),
    [
        (1_700_000_000, "s", 1_700_000_000 * 10**9),
        (1_700_000_000.123456, "s", 1_700_000_000_123_456_000),
        (1_700_000_000_123.5, "ms", 1_700_000_000_123_500_000),
        (9_214_646_399_999_999_999, "ns", 9_214_646_399_999_999_999),
        ("2023-11-14T22:13:20Z", "ms", NOW_NS),
        ("2023-11-14T22:13:20.123456789Z", "ms", NOW_NS + 123_456_789),
        ("2023-11-14 22:13:20,5", "ms", NOW_NS + 500_000_000),
        ("2023-11-15T03:43:20.000001+05:30", "s", NOW_NS + 1_000),
        ("2023-11-14T17:13-0500", "s", NOW_NS - 20 * 10**9),
        ("1970-01-01", "s", 0),
    ],
)
def test_times(time: Any, unit: TimeUnit, expected: int) -> None:
    assert event_time_ns(time, unit, "time") == expected


@pytest.mark.parametrize(
    "text", ["2023-02-30T00:00:00Z", "2023-11-14T25:00", "1969-12-31T23:59:59.9Z", "2262-01-01", ""]
)
def test_invalid_times_are_record_errors(text: str) -> None:
    with pytest.raises(RecordError, match="expected") as caught:
        event_time_ns(text, "s", "time")
    assert caught.value.reason == "bad_time"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.integers(NOW_MS - 10, NOW_MS + 10) | st.just("2023-11-14T22:13:20.5Z") | JSON
READINGS = st.dictionaries(st.text(max_size=3), st.none() | st.floats() | st.integers() | JSON, max_size=4)
ROWS = st.fixed_dictionaries(
    {}, optional={"series": st.text(max_size=3) | JSON, "time": TIMES, "values": READINGS | JSON, "times": JSON}
)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60) | JSON.map(lambda x: json.dumps(x).encode()))
def test_any_bytes_yield_observations_or_dead_letters(value: bytes) -> None:
    for using in (decoder(), decoder(values_field="")):
        observations, dead_letters = using.decode(record_of(value, b"k"))
        assert observations or dead_letters


@settings(deadline=None, max_examples=200)
@given(st.lists(ROWS, min_size=1, max_size=3), st.booleans())
def test_the_decoder_equals_the_reference_decoder(rows: list[dict[str, Any]], single: bool) -> None:
    payload = rows[0] if single else rows
    observations, dead_letters = decode(payload, key=b"k")
    expected, reasons = naive.decode(json.dumps(payload).encode(), "k", NOW_NS, ahead_ns=300 * 10**9)
    assert same(observations, expected)
    assert {x.reason for x in dead_letters} == reasons
