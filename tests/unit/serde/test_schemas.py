"""Avro and Protobuf by a schema file: read as written, and never anything but observations or dead letters."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.errors import ConfigError
from stream_ad.records import Observation, SourcePosition, SourceRecord
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import DetectorSettings, Subscription
from tests.support.schemas import avro_bytes, confluent, descriptor_set, protobuf_bytes

TIME_NS = 1_767_225_600_250_000_000
DOC = (Path(__file__).parents[3] / "docs" / "payloads.md").read_text(encoding="utf-8")
(AVRO,) = re.findall(r"```avro\n(.*?)```", DOC, re.DOTALL)
DESCRIPTORS = descriptor_set("""
package plant;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Reading {
string series = 1;
google.protobuf.Timestamp time = 2;
map<string, double> values = 3;
}
message Flat {
string series = 1;
int64 time = 2;
float a = 3;
uint32 b = 4;
google.protobuf.DoubleValue c = 5;
}
""")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("schemas")
    (home / "plant.avsc").write_text(AVRO)
    (home / "plant.pb").write_bytes(DESCRIPTORS)
    return home


def decoder(files: Path, format: str, **more: Any) -> Decoder:
    schema = files / {"avro": "plant.avsc", "protobuf": "plant.pb"}[format]
    return Decoder(Subscription(topic="t", format=format, schema_file=schema, **more), DetectorSettings())


def decoded(made: Decoder, value: bytes, key: bytes | None = None) -> tuple[list[Observation], list[str]]:
    found, dead_letters = made.decode(SourceRecord(SourcePosition("t", 0, 0), 0, key, value))
    return found, [dead_letter.reason for dead_letter in dead_letters]


def avro(**more: Any) -> bytes:
    reading = {"series": "pump-1", "time": TIME_NS // 10**6, "pressure": 3.25, "flow": None, "shift": "NIGHT", **more}
    return avro_bytes(AVRO, reading)


def test_avro_as_documented(files: Path) -> None:
    made = decoder(files, "avro", values_field="", framing="confluent")
    (found,), dead_letters = decoded(made, confluent(avro()))
    assert dead_letters == []
    assert (found.series, found.event_time_ns, found.values) == ("pump-1", TIME_NS, {"pressure": 3.25})
    (found,), _ = decoded(made, confluent(avro(flow=1.5, pressure=math.nan)))
    assert found.values == {"flow": 1.5}


def test_protobuf_as_documented(files: Path) -> None:
    message = {"series": "pump-1", "time": "2026-01-01T00:00:00.250Z", "values": {"pressure": 3.25, "flow": "NaN"}}
    value = protobuf_bytes(DESCRIPTORS, "plant.Reading", message)
    (found,), dead_letters = decoded(decoder(files, "protobuf", message="plant.Reading"), value)
    assert dead_letters == []
    assert (found.series, found.event_time_ns) == ("pump-1", TIME_NS)
    assert found.values["pressure"] == 3.25
    assert math.isnan(found.values["flow"])


def test_a_flat_protobuf_behind_a_registry_s_header(files: Path) -> None:
    """0 is written by leaving it out, and is a reading; a wrapper that is not there is none."""
    value = protobuf_bytes(DESCRIPTORS, "plant.Flat", {"time": str(TIME_NS // 10**6), "a": 0.0})
    made = decoder(files, "protobuf", message="plant.Flat", values_field="", framing="confluent")
    (found,), dead_letters = decoded(made, confluent(value, b"\2\2"), b"pump-1")
    assert dead_letters == []
    assert (found.series, found.values) == ("pump-1", {"a": 0.0, "b": 0.0})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"\1\0\0\0\7" + avro(), "bad_framing"),
        (b"\0\0", "bad_framing"),
        (confluent(avro()[:-1]), "bad_avro"),
        (confluent(avro() + b"x"), "bad_avro"),
    ],
)
def test_bytes_of_another_schema_are_a_dead_letter(files: Path, value: bytes, reason: str) -> None:
    found, dead_letters = decoded(decoder(files, "avro", values_field="", framing="confluent"), value)
    assert (found, dead_letters) == ([], [reason])


@given(st.binary(max_size=200))
def test_any_bytes_are_observations_or_dead_letters(files: Path, value: bytes) -> None:
    for made in (
        decoder(files, "avro", values_field=""),
        decoder(files, "avro", framing="confluent"),
        decoder(files, "protobuf", message="plant.Flat", values_field=""),
        decoder(files, "protobuf", message="plant.Reading", framing="confluent"),
    ):
        found, dead_letters = decoded(made, value, b"key")
        assert found or dead_letters


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        ("avro", b"{", "expected an Avro schema"),
        ("avro", b'{"type": "nothing"}', "expected an Avro schema"),
        ("protobuf", b"\xff\xff", "expected a descriptor set"),
        ("protobuf", b"", "expected a message 'plant.Reading', found none"),
    ],
)
def test_an_invalid_schema_file_is_a_config_error(tmp_path: Path, format: str, text: bytes, expected: str) -> None:
    (tmp_path / "s").write_bytes(text)
    more = {"message": "plant.Reading"} if format == "protobuf" else {}
    with pytest.raises(ConfigError, match=expected):
        Decoder(Subscription(topic="t", format=format, schema_file=tmp_path / "s", **more), DetectorSettings())
    with pytest.raises(ConfigError, match="cannot be read"):
        Decoder(Subscription(topic="t", format=format, schema_file=tmp_path / "no", **more), DetectorSettings())


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "avro"},
        {"format": "protobuf", "schema_file": "s"},
        {"format": "avro", "schema_file": "s", "message": "m"},
        {"format": "json", "schema_file": "s"},
        {"framing": "confluent"},
    ],
)
def test_contradicting_subscription_keys_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"schema_file|message"):
        Subscription(topic="t", **fields)
