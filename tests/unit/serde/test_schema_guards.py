"""Hostile bytes of Avro and Protobuf become dead letters in little time; schemas that allow worse are refused."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.errors import ConfigError
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import DetectorSettings, Subscription
from tests.support.schemas import avro_bytes, confluent, descriptor_set, protobuf_bytes

T_MS = 1_767_225_600_123
T = datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
Opened = Callable[..., Decoder]
Found = tuple[list[tuple[str, int, dict[str, float]]], list[str]]


def field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


def record(*fields: dict[str, Any], name: str = "Reading") -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "plant", "fields": list(fields)}


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
MAP = record(
    field("series", "string"), field("time", MILLIS), field("values", {"type": "map", "values": ["null", "double"]})
)
FLAT = record(
    field("machine", ["null", "string"]),
    field("ts", ["null", {"type": "long", "logicalType": "timestamp-micros"}]),
    field("pressure", "float"),
    field("cost", DECIMAL),
    field("gap", ["null", "double"]),
    field("state", {"type": "enum", "name": "State", "symbols": ["IDLE", "BUSY"]}),
    field("note", "string"),
)
PROTO = """
package plant;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum State {
IDLE = 0;
BUSY = 1;
}
message Other {
double level = 1;
}
message Reading {
message Inner {
string series = 1;
int64 time = 2;
double level = 3;
}
string series = 1;
google.protobuf.Timestamp time = 2;
map<string, double> values = 3;
}
message Flat {
string machine = 1;
int64 ts = 2;
double pressure = 3;
sint32 turns = 4;
optional double gap = 5;
google.protobuf.DoubleValue boxed = 6;
State state = 7;
string note = 8;
repeated double wave = 9;
Other other = 10;
Flat inner = 11;
}
message Sets {
message Values {
double level = 1;
optional double gap = 2;
}
string series = 1;
uint64 time = 2;
Values values = 3;
}
message Columns {
message Values {
repeated double level = 1;
}
string series = 1;
repeated int64 times = 2;
Values values = 3;
}
"""
DESCRIPTORS = descriptor_set(PROTO)
FLAT_KEYS = {"series_field": "machine", "time_field": "ts", "values_field": ""}


def open_decoder(path: Path, schema: Any, **keys: Any) -> Decoder:
    text = schema if isinstance(schema, bytes | str) else json.dumps(schema)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    form = "protobuf" if "message" in keys else "avro"
    return Decoder(Subscription(topic="t", schema_file=path, **({"format": form} | keys)), DetectorSettings())


@pytest.fixture(name="opened")
def fixture_opened(tmp_path: Path) -> Opened:
    return lambda schema, **keys: open_decoder(tmp_path / "schema", schema, **keys)


def read(decoder: Decoder, value: bytes, key: bytes | None = None) -> Found:
    observations, dead_letters = decoder.decode(SourceRecord(SourcePosition("t", 0, 0), 0, key, value))
    return [(o.series, o.event_time_ns, dict(o.values)) for o in observations], [
        dead_letter.reason for dead_letter in dead_letters
    ]


# ---- avro


def test_avro_flat(opened: Opened) -> None:
    message = {
        "machine": None, "ts": T, "pressure": 0.5, "cost": Decimal("-1.25"), "gap": None, "state": "BUSY", "note": "3",
    }  # fmt: skip
    found, dead_letters = read(opened(FLAT, **FLAT_KEYS), avro_bytes(json.dumps(FLAT), message), b"by-key")
    assert (found, dead_letters) == ([("by-key", T_MS * 10**6, {"pressure": 0.5, "cost": -1.25})], [])


def test_avro_arrays_columns_and_unions(opened: Opened) -> None:
    rows = {"type": "array", "items": MAP}
    sent: Any = [{"series": "s", "time": T, "values": {"a": i}} for i in (1.0, 2.0)]
    found, _ = read(opened(rows), avro_bytes(json.dumps(rows), sent))
    assert [values for _, _, values in found] == [{"a": 1.0}, {"a": 2.0}]
    columns = record(
        field("series", "string"),
        field("times", {"type": "array", "items": MILLIS}),
        field("values", record(field("a", {"type": "array", "items": "double"}), name="V")),
    )
    sent = {"series": "s", "times": [T, T.replace(microsecond=0)], "values": {"a": [1.0, 2.0]}}
    found, dead_letters = read(opened(columns), avro_bytes(json.dumps(columns), sent))
    assert dead_letters == []
    assert [(time_ns, values) for _, time_ns, values in found] == [
        (T_MS * 10**6, {"a": 1.0}), (T_MS // 1000 * 10**9, {"a": 2.0})
    ]  # fmt: skip
    union = ["null", MAP]
    sent = {"series": "s", "time": T, "values": {"a": 1.0}}
    found, dead_letters = read(opened(union), avro_bytes(json.dumps(union), sent))
    assert (found, dead_letters) == ([("s", T_MS * 10**6, {"a": 1.0})], [])
    assert read(opened(union), b"\x00") == ([], ["wrong_type"])


@pytest.mark.parametrize(
    ("kind", "sent", "time_ns", "unit"),
    [
        ({"type": "long", "logicalType": "timestamp-micros"}, T, T_MS * 10**6, "s"),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, T.replace(tzinfo=None), T_MS * 10**6, "s"),
        ({"type": "long", "logicalType": "timestamp-nanos"}, T_MS * 10**6 + 7, T_MS * 10**6 + 7, "ns"),
        ("double", T_MS / 1000, T_MS * 10**6, "s"),
        ("string", "2026-01-01T00:00:00.123Z", T_MS * 10**6, "s"),
    ],
)
def test_avro_times(opened: Opened, kind: Any, sent: Any, time_ns: int, unit: str) -> None:
    schema = record(field("series", "string"), field("time", kind), field("a", "int"))
    value = avro_bytes(json.dumps(schema), {"series": "s", "time": sent, "a": 1})
    assert read(opened(schema, values_field="", time_unit=unit), value) == ([("s", time_ns, {"a": 1.0})], [])


def test_avro_damaged_bytes_are_dead_letters(opened: Opened) -> None:
    value = avro_bytes(json.dumps(MAP), {"series": "s", "time": T, "values": {"a": 1.5}})
    decoder, framed = opened(MAP), opened(MAP, framing="confluent")
    for bad in (value[:-1], value + b"\x00", confluent(value), b"\xff" * 30, b"{}"):
        assert read(decoder, bad) == ([], ["bad_avro"])
    for bad in (value, b"\x00\x00", b" "):
        assert read(framed, bad) == ([], ["bad_framing"])
    assert read(decoder, b"x" * 1_000_001) == ([], ["too_large"])
    far = avro_bytes(json.dumps(MAP), {"series": "s", "time": 2**62, "values": {"a": 1.5}})
    assert read(decoder, far) == ([], ["bad_avro"])


def long(number: int) -> bytes:
    return avro_bytes('"long"', number)


def test_avro_array_counts_are_checked_before_decoding(opened: Opened) -> None:
    rows = opened({"type": "array", "items": MAP})
    for count in (50_001, 2**62, -(2**62)):
        assert read(rows, long(count) + long(1)) == ([], ["too_many_observations"])
    one = avro_bytes(json.dumps(MAP), {"series": "s", "time": T, "values": {"a": 1.0}})
    sized = long(-1) + long(len(one)) + one
    found, dead_letters = read(rows, long(1) + one + sized + long(0))
    assert (len(found), dead_letters) == (2, [])
    assert read(rows, long(0)) == ([], ["empty"])


@pytest.mark.timeout(20)
def test_avro_decimals_are_short(opened: Opened) -> None:
    """fastavro alone needs more than a minute for the longest of these."""
    flat = record(field("time", "long"), field("cost", ["null", DECIMAL]))
    decoder = opened(flat, values_field="")
    for count, expected in ((32, []), (33, ["bad_avro"]), (999_000, ["bad_avro"])):
        value = long(T_MS) + long(1) + long(count) + b"\x01" * count
        assert read(decoder, value, b"k")[1] == expected


NODE = record(field("time", "long"), field("n", ["null", "Node"]), name="Node")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("{", "expected an Avro schema, found something else .JSONDecodeError"),
        (b"\xff\xfe", "expected an Avro schema"),
        ("5", "expected an Avro schema"),
        ("[" * 100_000, "expected an Avro schema, found something else .RecursionError"),
        ({"type": "record"}, "expected an Avro schema, found .*name"),
        (record(field("a", "Nowhere")), "expected an Avro schema, found .*UnknownType"),
        ('"long"', "expected a record or an array of records, found long"),
        (["null", "long"], "expected a record or an array of records"),
        (NODE, r"expected types that do not contain themselves, found plant\.Node"),
        ({"type": "array", "items": NODE}, r"expected types that do not contain themselves, found plant\.Node"),
        (record(field("time", {"type": "array", "items": "null"})), "expected items of at least one byte"),
        ({"type": "array", "items": record(field("z", "null"))}, "expected items of at least one byte"),
        (
            record(field("time", {"type": "array", "items": record(field("z", "null"), name="Z")})),
            "expected items of at least one byte",
        ),
    ],
)
def test_an_unusable_avro_schema_is_a_config_error(opened: Opened, schema: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        opened(schema)


# ---- protobuf


def test_protobuf_after_its_message_indexes(opened: Opened) -> None:
    expected = {"series": "s", "time": "2026-01-01T00:00:00.123456789Z", "values": {"a": 0}}
    sent = protobuf_bytes(DESCRIPTORS, "plant.Reading", expected)
    expected = ([("s", 1_767_225_600_123_456_789, {"a": 0.0})], [])
    assert read(opened(DESCRIPTORS, message="plant.Reading"), sent) == expected
    framed = opened(DESCRIPTORS, message="plant.Reading", framing="confluent")
    assert read(framed, confluent(sent, b"\x02\x02")) == expected
    for bad in (confluent(sent, b"\x00"), confluent(sent, b"\x02\x04"), confluent(b""), sent):
        assert read(framed, bad) == ([], ["bad_framing"])


def test_protobuf_indexes_of_first_and_inner_messages(opened: Opened) -> None:
    other = opened(DESCRIPTORS, message="plant.Other", framing="confluent", values_field="", time_field="level")
    sent = protobuf_bytes(DESCRIPTORS, "plant.Other", {"level": 5})
    for written in (b"\x00", b"\x02\x00"):
        assert read(other, confluent(sent, written), b"k") == ([], ["no_values"])
    inner = opened(DESCRIPTORS, message="plant.Reading.Inner", framing="confluent", values_field="")
    sent = protobuf_bytes(DESCRIPTORS, "plant.Reading.Inner", {"series": "s", "time": str(T_MS)})
    assert read(inner, confluent(sent, b"\x04\x02\x00")) == ([("s", T_MS * 10**6, {"level": 0.0})], [])


def test_protobuf_flat(opened: Opened) -> None:
    sent = {"ts": str(T_MS), "turns": -3, "boxed": 2.5, "state": "BUSY", "note": "3", "wave": [1, 2], "other": {}}
    decoder = opened(DESCRIPTORS, message="plant.Flat", **FLAT_KEYS)
    value = protobuf_bytes(DESCRIPTORS, "plant.Flat", sent)
    expected = {"pressure": 0.0, "turns": -3.0, "boxed": 2.5}
    assert read(decoder, value, b"by-key") == ([("by-key", T_MS * 10**6, expected)], [])
    assert read(decoder, protobuf_bytes(DESCRIPTORS, "plant.Flat", {"turns": 1}), b"k") == ([], ["missing_field"])


def test_protobuf_messages_of_readings_and_columns(opened: Opened) -> None:
    value = protobuf_bytes(DESCRIPTORS, "plant.Sets", {"series": "s", "time": str(T_MS), "values": {"level": 1}})
    [(series, time_ns, values)], dead_letters = read(opened(DESCRIPTORS, message="plant.Sets"), value)
    assert (series, time_ns, dead_letters) == ("s", T_MS * 10**6, [])
    assert values["level"] == 1.0
    assert math.isnan(values["gap"])
    expected = {"series": "s", "times": [str(T_MS), "0"], "values": {"level": [1, 2]}}
    value = protobuf_bytes(DESCRIPTORS, "plant.Columns", expected)
    found, dead_letters = read(opened(DESCRIPTORS, message="plant.Columns"), value)
    assert (found, dead_letters) == ([("s", T_MS * 10**6, {"level": 1.0}), ("s", 0, {"level": 2.0})], [])


def test_protobuf_damaged_bytes_are_dead_letters(opened: Opened) -> None:
    decoder = opened(DESCRIPTORS, message="plant.Reading")
    sent = protobuf_bytes(DESCRIPTORS, "plant.Reading", {"series": "s", "values": {"a": 1}})
    assert read(decoder, sent) == ([], ["missing_field"])
    assert read(decoder, sent[:-1]) == ([], ["bad_protobuf"])
    far = b"\x12\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + sent
    assert read(decoder, far) == ([], ["bad_time"])


def test_recursive_protobuf_messages_end_at_the_library_limit(opened: Opened) -> None:
    """Messages within messages are not looked at; the library refuses more than a hundred."""
    decoder = opened(DESCRIPTORS, message="plant.Flat", **FLAT_KEYS)
    nested = protobuf_bytes(DESCRIPTORS, "plant.Flat", {"ts": str(T_MS), "pressure": 1})
    for depth in range(1, 300):
        head, rest = bytearray(b"\x5a"), len(nested)  # field 11
        while rest > 0x7F:
            head.append(rest & 0x7F | 0x80)
            rest >>= 7
        nested = bytes([*head, rest]) + nested
        found, dead_letters = read(decoder, b"\x10\x05" + nested, b"k")
        assert (len(found), dead_letters) in ((1, []), (0, ["bad_protobuf"])), depth
    assert dead_letters == ["bad_protobuf"]


@pytest.mark.parametrize(
    ("schema", "message", "expected"),
    [
        ("syntax = 'proto3';", "plant.Reading", "expected a descriptor set.*--include_imports"),
        (descriptor_set(PROTO, imports=False), "plant.Reading", "all that it imports.*--include_imports"),
        (DESCRIPTORS, "plant.Nothing", r"expected a message 'plant.Nothing', found .*plant\.Flat"),
    ],
)
def test_an_unusable_descriptor_set_is_a_config_error(opened: Opened, schema: Any, message: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        opened(schema, message=message)
    assert re.search(expected, f"{error.value.message} {error.value.hint}")


# ---- both


@pytest.mark.parametrize("framing", ["plain", "confluent"])
@pytest.mark.parametrize("form", ["avro", "flat", "protobuf", "sets"])
@given(data=st.data())
def test_bytes_spliced_into_a_message_never_raise(
    tmp_path_factory: pytest.TempPathFactory, form: str, framing: str, data: st.DataObject
) -> None:
    message = {"protobuf": "plant.Reading", "sets": "plant.Sets"}.get(form)
    keys: dict[str, Any] = {"message": message} if message else FLAT_KEYS if form == "flat" else {}
    schema = DESCRIPTORS if message else {"avro": MAP, "flat": FLAT}[form]
    decoder = open_decoder(tmp_path_factory.getbasetemp() / f"{form}.schema", schema, framing=framing, **keys)
    if message:
        sample = protobuf_bytes(DESCRIPTORS, "plant.Sets", {"series": "s", "time": str(T_MS), "values": {"gap": 1}})
    else:
        sample = avro_bytes(json.dumps(MAP), {"series": "s", "time": T, "values": {"a": 1.5}})
    cut = data.draw(st.integers(0, len(sample)))
    for value in (data.draw(st.binary()), sample[:cut] + data.draw(st.binary(max_size=8)) + sample[cut:]):
        index = b"\x02\x02" if form == "protobuf" else b"\x02\x06" if message else b""
        found, dead_letters = read(decoder, confluent(value, index) if framing == "confluent" else value)
        assert found or dead_letters


@pytest.mark.parametrize(("form", "library"), [("avro", "fastavro"), ("protobuf", "google.protobuf")])
def test_a_missing_library_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    keys = {"message": "m"} if form == "protobuf" else {}
    with pytest.raises(ConfigError) as error:
        open_decoder(tmp_path / "x", "", format=form, **keys)
    assert error.value.hint == f"pip install 'stream-ad[{form}]'"
