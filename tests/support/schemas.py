"""Messages that follow a schema, as producers write them; there is no protoc here, so a small part of its language."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import fastavro
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    timestamp_pb2,
    wrappers_pb2,
)

__all__ = ["avro_bytes", "confluent", "descriptor_set", "protobuf_bytes"]

_Field = descriptor_pb2.FieldDescriptorProto
_FIELD = re.compile(r"(?:(repeated|optional) )?(?:map<(\w+), ?([\w.]+)>|([\w.]+)) (\w+) = (\d+);")
_BEGIN = re.compile(r"(message|enum) (\w+) \{")
_NUMBER = re.compile(r"(\w+) = (\d+);")


def avro_bytes(schema: str | bytes, message: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), message)
    return out.getvalue()


def confluent(value: bytes, indexes: bytes = b"") -> bytes:
    """As Confluent's serializers frame it, under the schema id 7."""
    return b"\x00\x00\x00\x00\x07" + indexes + value


def descriptor_set(proto: str, *, imports: bool = True) -> bytes:
    """What protoc --include_imports --descriptor_set_out writes, of a proto3 file with a statement a line."""
    file = descriptor_pb2.FileDescriptorProto(name="plant.proto", syntax="proto3")
    lines = [line.strip() for line in proto.splitlines() if line.strip()]
    file.package = next((line[8:-1] for line in lines if line.startswith("package ")), "")
    file.dependency.extend(re.findall(r'import "(.*)";', proto))
    scopes: list[Any] = [file]
    for line in lines:
        if begin := _BEGIN.fullmatch(line):
            kind, name = begin.groups()
            scopes.append(_types(scopes[-1], kind).add(name=name))
        elif line == "}":
            scopes.pop()
        elif isinstance(scopes[-1], descriptor_pb2.EnumDescriptorProto) and (number := _NUMBER.fullmatch(line)):
            scopes[-1].value.add(name=number[1], number=int(number[2]))
        elif field := _FIELD.fullmatch(line):
            _add(scopes[-1], *field.groups())
    known = [timestamp_pb2.DESCRIPTOR, wrappers_pb2.DESCRIPTOR]
    files = [descriptor_pb2.FileDescriptorProto.FromString(one.serialized_pb) for one in known] if imports else []
    return descriptor_pb2.FileDescriptorSet(file=[*files, file]).SerializeToString()


def _types(scope: Any, kind: str) -> Any:
    if kind == "enum":
        return scope.enum_type
    return scope.message_type if isinstance(scope, descriptor_pb2.FileDescriptorProto) else scope.nested_type


def _add(message: Any, rule: str | None, key: str | None, value: str | None, kind: str, name: str, number: str) -> None:
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if rule == "repeated" or key:
        field.label = _Field.LABEL_REPEATED
    if rule == "optional":
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")
    if key and value:
        entry = message.nested_type.add(name=name.capitalize() + "Entry")
        entry.options.map_entry = True
        _add(entry, None, None, None, key, "key", "1")
        _add(entry, None, None, None, value, "value", "2")
        kind = entry.name
    if hasattr(_Field, f"TYPE_{kind.upper()}"):
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")
    else:
        field.type_name = kind


def protobuf_bytes(descriptors: bytes, name: str, message: dict[str, Any]) -> bytes:
    """Of a message as protobuf's JSON has it."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    of = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    return bytes(json_format.ParseDict(message, of(), descriptor_pool=pool).SerializeToString())
