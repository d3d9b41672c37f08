"""Avro and Protobuf by a schema file -> the objects that the decoder judges.

Times with a logical type (Avro's timestamps, google.protobuf.Timestamp) become ISO-8601 text; NaN is no reading.
Formats: https://avro.apache.org/docs/1.12.0/specification/ (single objects, without a container);
https://protobuf.dev/programming-guides/encoding/; framing = "confluent": a zero byte and the number of a schema stand
before the message, and in Protobuf the place of its type in the schema.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

from stream_ad.errors import ConfigError, RecordError
from stream_ad.json_values import describe_found
from stream_ad.settings import Subscription

__all__ = ["schema_parser"]

_HEADER = 5  # bytes: zero, and the schema's number
_WELL_KNOWN = "google.protobuf."
# What fastavro raises over bytes that are not of the schema.
_REFUSED = (EOFError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error, MemoryError)


def schema_parser(subscription: Subscription) -> Callable[[bytes], Any]:
    """Parses the values of a subscription of format avro or protobuf. RecordError when one is not of the schema.

    ConfigError when the schema file cannot be read or is none, or the format's library is not installed.
    """
    path = subscription.schema_file
    assert path is not None
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"schema_file {path} cannot be read: {error.strerror}") from None
    avro = subscription.format == "avro"
    read = _avro(path, text) if avro else _protobuf(path, text, subscription.message or "")
    if subscription.framing == "plain":
        return read
    return lambda value: read(_unframed(value, indexes=not avro))


def _unframed(value: bytes, *, indexes: bool) -> bytes:
    if len(value) < _HEADER or value[0] != 0:
        raise RecordError("bad_framing", "expected a zero byte and a schema's number before the message, found neither")
    at = _HEADER
    if indexes:
        count, at = _varint(value, at)
        for _ in range(count):
            _, at = _varint(value, at)
    return value[at:]


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A number in zigzag, and where what follows it begins."""
    number = shift = 0
    while at < len(value) and shift < 35:
        number |= (value[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not value[at - 1] & 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise RecordError("bad_framing", "expected the place of the message's type, found the end")


# ---- Avro


def _avro(path: Path, text: bytes) -> Callable[[bytes], Any]:
    try:
        import fastavro
    except ImportError:
        raise _missing("avro", "fastavro") from None
    try:
        schema = fastavro.parse_schema(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, fastavro.schema.SchemaParseException) as error:
        raise ConfigError(f"schema_file {path}: expected an Avro schema, found another thing: {error}") from None

    def read(value: bytes) -> Any:
        stream = BytesIO(value)
        try:
            found = fastavro.schemaless_reader(stream, schema, None)
        except (
            EOFError,
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            OverflowError,
            struct.error,
            MemoryError,
        ) as error:
            raise RecordError("bad_avro", f"expected a message of {path.name}: {_said(error)}") from None
        if stream.tell() != len(value):
            left = len(value) - stream.tell()
            raise RecordError("bad_avro", f"expected a message of {path.name}, found {left} bytes behind it")
        return _plain(found)

    return read


def _plain(value: Any) -> Any:
    """As JSON would have it."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and value != value:  # noqa: PLR0124  # NaN
        return None
    return value


# ---- Protobuf


def _protobuf(path: Path, text: bytes, name: str) -> Callable[[bytes], Any]:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
        from google.protobuf.message import DecodeError
    except ImportError:
        raise _missing("protobuf", "protobuf") from None
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in descriptor_pb2.FileDescriptorSet.FromString(text).file:
            pool.Add(file)
    except (DecodeError, TypeError) as error:
        raise ConfigError(
            f"schema_file {path}: expected a descriptor set, found another thing: {_said(error)}",
            mend="protoc --descriptor_set_out=FILE --include_imports makes one",
        ) from None
    try:
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    except (KeyError, TypeError):
        raise ConfigError(f"schema_file {path}: expected a message {name!r}, found none of that name") from None

    def read(value: bytes) -> Any:
        try:
            return _fields(kind.FromString(value))
        except (DecodeError, UnicodeDecodeError) as error:
            raise RecordError("bad_protobuf", f"expected a message {name}: {_said(error)}") from None

    return read


def _fields(message: Any) -> dict[str, Any]:
    """Every field that is there. Without presence a number is there, since 0 is written by leaving it out, and an empty
    text is not."""
    found = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if message.HasField(field.name) if field.has_presence else value not in ("", b""):
            found[field.name] = _field(field, value)
    return found


def _field(field: Any, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {str(name): _one(inner, value[name]) for name in value}
    return [_one(field, one) for one in value] if field.is_repeated else _one(field, value)


def _one(field: Any, value: Any) -> Any:
    kind = field.message_type
    if kind is not None:
        if kind.full_name == f"{_WELL_KNOWN}Timestamp":
            return value.ToJsonString()
        if kind.full_name.startswith(_WELL_KNOWN) and [one.name for one in kind.fields] == ["value"]:
            return _one(kind.fields[0], value.value)  # DoubleValue and its kin
        return _fields(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    return _plain(value)


def _missing(extra: str, library: str) -> ConfigError:
    return ConfigError(
        f"format {extra!r} needs {library}, which is not installed", mend=f"pip install 'stream-ad[{extra}]'"
    )


def _said(error: BaseException) -> str:
    return describe_found(" ".join(str(error).split()) or type(error).__name__)
