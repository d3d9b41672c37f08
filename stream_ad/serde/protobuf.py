"""Protobuf by a descriptor set: https://protobuf.dev/programming-guides/encoding/

google.protobuf.Timestamp becomes ISO-8601 text; NaN is no reading.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from stream_ad.errors import RecordError
from stream_ad.serde.schema_file import bad_schema, missing_library, read_schema_file
from stream_ad.settings import Subscription

__all__ = ["ProtobufParser"]

_HINT = "protoc --descriptor_set_out=FILE --include_imports makes one"
_TIMESTAMP = "google.protobuf.Timestamp"
_WRAPPERS = {
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = range(-62_135_596_800, 253_402_300_800)  # the years 1 to 9999


class ProtobufParser:
    """One message a value. Only the fields that the subscription names are looked at; of a flat one, every single one.

    Trap: a field that knows no presence is not sent when it is 0 or "". So of the time and of text these are read as
    none, of the readings as 0.
    """

    def __init__(self, subscription: Subscription) -> None:
        """ConfigError when the descriptor set is none or lacks the message, or protobuf is not installed."""
        try:
            from google.protobuf import message, message_factory
        except ImportError:
            raise missing_library(subscription, "protobuf") from None
        descriptor = _descriptor(subscription)
        self._name = str(descriptor.full_name)
        self._parse: Callable[[bytes], Any] = message_factory.GetMessageClass(descriptor).FromString
        self._refused = (message.DecodeError, ValueError)
        self._path = _path(descriptor)
        self._values, self._time = subscription.values_field, subscription.time_field
        named = {subscription.series_field, self._time, f"{self._time}s", self._values}
        flat = not self._values
        self._wanted = [f for f in descriptor.fields if (not f.is_repeated if flat else f.name in named)]

    def parse(self, value: bytes) -> Any:
        """RecordError bad_protobuf, bad_time."""
        try:
            message = self._parse(value)
        except self._refused as error:
            raise RecordError(
                "bad_protobuf", f"expected {self._name}, found {len(value)} bytes ({type(error).__name__})"
            ) from None
        return {f.name: self._field(message, f, deep=f.name == self._values) for f in self._wanted}

    def parse_indexed(self, value: bytes) -> Any:
        """Behind the message's indexes. RecordError bad_framing when they are another message's."""
        for written in _written(self._path):
            if value.startswith(written):
                return self.parse(value[len(written) :])
        found = value[: 2 + len(self._path)].hex(" ")
        raise RecordError("bad_framing", f"expected the indexes {self._path} of {self._name}, found bytes {found!r}")

    def _field(self, message: Any, field: Any, *, deep: bool) -> Any:
        """deep: the fields of a message within are looked at too."""
        found, kind = getattr(message, field.name), field.message_type
        if field.is_repeated:
            if kind is not None and kind.GetOptions().map_entry:
                of = kind.fields_by_name["value"]
                return {str(name): self._one(found[name], of) for name in found}
            return [self._one(one, field) for one in found]
        if field.has_presence:
            if not message.HasField(field.name):
                return None
        elif found in ("", b"") or (not found and field.name == self._time):
            return None
        if deep and kind is not None and not _is_single(kind):
            return {inner.name: self._field(found, inner, deep=False) for inner in kind.fields}
        return self._one(found, field)

    def _one(self, found: Any, field: Any) -> Any:
        """A single value; of a message that means none, an empty object."""
        if field.enum_type is not None:
            known = field.enum_type.values_by_number.get(found)
            return str(found) if known is None else known.name
        if field.message_type is not None:
            if field.message_type.full_name == _TIMESTAMP:
                return _timestamp(found)
            if field.message_type.full_name not in _WRAPPERS:
                return {}
            found = found.value
        return None if found != found else found  # noqa: PLR0124  # NaN


def _is_single(descriptor: Any) -> bool:
    return descriptor.full_name == _TIMESTAMP or descriptor.full_name in _WRAPPERS


def _timestamp(found: Any) -> str:
    """ISO-8601 text, which holds its nanoseconds. RecordError: protobuf's own way to text raises out of range."""
    if found.seconds not in _SECONDS or not 0 <= found.nanos < 1_000_000_000:
        raise RecordError(
            "bad_time", f"expected a {_TIMESTAMP} of the years 1..9999, found {found.seconds} s, {found.nanos} ns"
        )
    moment = (_EPOCH + timedelta(seconds=found.seconds)).replace(tzinfo=None)
    return f"{moment.isoformat()}.{found.nanos:09d}Z"


def _descriptor(subscription: Subscription) -> Any:
    """The message's descriptor, in a pool of its own."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message

    written = read_schema_file(subscription)
    pool = descriptor_pool.DescriptorPool()
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(written).file
        for file in files:
            pool.Add(file)
    except (message.DecodeError, TypeError) as error:  # TypeError: also of a file whose imports are not there
        found = f"another thing ({error})"
        raise bad_schema(subscription, "a descriptor set with all that it imports", found, hint=_HINT) from None
    name = subscription.message or ""
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        there = sorted(f"{file.package}.{one.name}".lstrip(".") for file in files for one in file.message_type)
        raise bad_schema(subscription, f"a message {name!r}", ", ".join(there) or "none", hint="set message") from None


def _path(descriptor: Any) -> list[int]:
    """Where the message is within its file: the index of each type that holds the next."""
    outer = descriptor.containing_type
    beside = descriptor.file.message_types_by_name.values() if outer is None else outer.nested_types
    return [*([] if outer is None else _path(outer)), [one.name for one in beside].index(descriptor.name)]


def _written(path: list[int]) -> list[bytes]:
    """The ways to write a path: its length and its parts; a single zero for the first message."""
    whole = b"".join(map(_zigzag, [len(path), *path]))
    return [b"\x00", whole] if path == [0] else [whole]


def _zigzag(number: int) -> bytes:
    """A number that is not negative, as a varint."""
    number, out = number << 1, bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
