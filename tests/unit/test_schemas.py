"""Avro and Protobuf by a schema file: read as written, and never anything but observations or dead letters."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.decode import Decoder
from stream_ad.errors import ConfigError
from stream_ad.records import Observation, SourcePosition, SourceRecord
from stream_ad.settings import DetectorSettings, Subscription

TIME_NS = 1_767_225_600_250_000_000
DOC = (Path(__file__).parents[2] / "docs" / "payloads.md").read_text(encoding="utf-8")
(AVRO,) = re.findall(r"```avro\n(.*?)```", DOC, re.DOTALL)
Field = descriptor_pb2.FieldDescriptorProto


def plant_proto() -> descriptor_pb2.FileDescriptorSet:
    """What protoc makes of docs/payloads.md's message, and of a flat one with every kind of number."""
    file = descriptor_pb2.FileDescriptorProto(name="plant.proto", package="plant", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    reading = file.message_type.add(name="Reading")
    reading.field.add(name="series", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    stamp = ".google.protobuf.Timestamp"
    reading.field.add(name="time", number=2, type=Field.TYPE_MESSAGE, type_name=stamp, label=Field.LABEL_OPTIONAL)
    entry = reading.nested_type.add(name="ValuesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=Field.TYPE_DOUBLE, label=Field.LABEL_OPTIONAL)
    values = ".plant.Reading.ValuesEntry"
    reading.field.add(name="values", number=3, type=Field.TYPE_MESSAGE, type_name=values, label=Field.LABEL_REPEATED)
    flat = file.message_type.add(name="Flat")
    kinds = {"series": Field.TYPE_STRING, "time": Field.TYPE_INT64, "a": Field.TYPE_FLOAT, "b": Field.TYPE_UINT32}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        flat.field.add(name=name, number=number, type=kind, label=Field.LABEL_OPTIONAL)
    double = ".google.protobuf.DoubleValue"
    flat.field.add(name="c", number=5, type=Field.TYPE_MESSAGE, type_name=double, label=Field.LABEL_OPTIONAL)
    found = descriptor_pb2.FileDescriptorSet()
    for module in (timestamp_pb2, wrappers_pb2):
        module.DESCRIPTOR.CopyToProto(found.file.add())
    found.file.append(file)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("schemas")
    (home / "plant.avsc").write_text(AVRO)
    (home / "plant.pb").write_bytes(plant_proto().SerializeToString())
    return home


def message(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in plant_proto().file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()


def decoder(files: Path, format: str, **more: Any) -> Decoder:
    schema = files / {"avro": "plant.avsc", "protobuf": "plant.pb"}[format]
    return Decoder(Subscription(topic="t", format=format, schema_file=schema, **more), DetectorSettings())


def decoded(made: Decoder, value: bytes, key: bytes | None = None) -> tuple[list[Observation], list[str]]:
    found, letters = made.decode(SourceRecord(SourcePosition("t", 0, 0), 0, key, value))
    return found, [letter.reason for letter in letters]


def avro(**more: Any) -> bytes:
    reading = {"series": "pump-1", "time": TIME_NS // 10**6, "pressure": 3.25, "flow": None, "shift": "NIGHT", **more}
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(AVRO)), reading)
    return stream.getvalue()


def test_avro_as_documented(files: Path) -> None:
    made = decoder(files, "avro", values_field="", framing="confluent")
    (found,), letters = decoded(made, b"\0\0\0\0\7" + avro())
    assert letters == []
    assert (found.series, found.event_time_ns, found.values) == ("pump-1", TIME_NS, {"pressure": 3.25})
    (found,), _ = decoded(made, b"\0\0\0\0\7" + avro(flow=1.5, pressure=math.nan))
    assert found.values == {"flow": 1.5}


def test_protobuf_as_documented(files: Path) -> None:
    one = message("plant.Reading")
    one.series, one.values["pressure"], one.values["flow"] = "pump-1", 3.25, math.nan
    one.time.FromNanoseconds(TIME_NS)
    (found,), letters = decoded(decoder(files, "protobuf", message="plant.Reading"), one.SerializeToString())
    assert letters == []
    assert (found.series, found.event_time_ns) == ("pump-1", TIME_NS)
    assert found.values["pressure"] == 3.25
    assert math.isnan(found.values["flow"])


def test_a_flat_protobuf_behind_a_registry_s_header(files: Path) -> None:
    """0 is written by leaving it out, and is a reading; a wrapper that is not there is none."""
    one = message("plant.Flat")
    one.time, one.a = TIME_NS // 10**6, 0.0
    made = decoder(files, "protobuf", message="plant.Flat", values_field="", framing="confluent")
    (found,), letters = decoded(made, b"\0\0\0\1\0\2\2" + one.SerializeToString(), b"pump-1")
    assert letters == []
    assert (found.series, found.values) == ("pump-1", {"a": 0.0, "b": 0.0})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"\1\0\0\0\7" + avro(), "bad_framing"),
        (b"\0\0", "bad_framing"),
        (b"\0\0\0\0\7" + avro()[:-1], "broken_avro"),
        (b"\0\0\0\0\7" + avro() + b"x", "broken_avro"),
    ],
)
def test_what_is_not_of_the_schema_is_a_dead_letter(files: Path, value: bytes, reason: str) -> None:
    found, letters = decoded(decoder(files, "avro", values_field="", framing="confluent"), value)
    assert (found, letters) == ([], [reason])


@given(st.binary(max_size=200))
def test_any_bytes_are_observations_or_dead_letters(files: Path, value: bytes) -> None:
    for made in (
        decoder(files, "avro", values_field=""),
        decoder(files, "avro", framing="confluent"),
        decoder(files, "protobuf", message="plant.Flat", values_field=""),
        decoder(files, "protobuf", message="plant.Reading", framing="confluent"),
    ):
        found, letters = decoded(made, value, b"key")
        assert found or letters


@pytest.mark.parametrize(
    ("format", "text", "said"),
    [
        ("avro", b"{", "expected an Avro schema"),
        ("avro", b'{"type": "nothing"}', "expected an Avro schema"),
        ("protobuf", b"\xff\xff", "expected a descriptor set"),
        ("protobuf", b"", "expected a message 'plant.Reading', found none"),
    ],
)
def test_a_schema_file_that_is_none(tmp_path: Path, format: str, text: bytes, said: str) -> None:
    (tmp_path / "s").write_bytes(text)
    more = {"message": "plant.Reading"} if format == "protobuf" else {}
    with pytest.raises(ConfigError, match=said):
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
def test_keys_that_do_not_go_together(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"schema_file|message"):
        Subscription(topic="t", **fields)
