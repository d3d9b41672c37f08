"""Protobuf by a descriptor set: https://protobuf.dev/programming-guides/encoding/

google.protobuf.Timestamp becomes ISO-8601 text; NaN becomes null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stream_ad.errors import RecordError
from stream_ad.serde.schema_file import bad_schema, missing_library, read_schema_file
from stream_ad.settings import Subscription
from stream_ad.timestamps import iso_utc

__all__ = ["ProtobufParser"]

_HINT = "protoc --descriptor_set_out=FILE --include_imports makes one"
_TIMESTAMP = "google.protobuf.Timestamp"
_WRAPPERS = {
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}
_SECONDS = range(-62_135_596_800, 253_402_300_800)  # the years 1 to 9999


class ProtobufParser:
    """Each value is one message. Reads the fields that the subscription names; of a flat message every singular field.

    Trap: a field without presence is not sent when it is 0 or "". So an absent time or text reads as null, an absent
    reading as 0.
    """

    def __init__(self, subscription: Subscription) -> None:
        """ConfigError: no descriptor set, one without the message, or protobuf is not installed."""
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
        """After the message indexes. RecordError bad_framing when they name another message."""
        for prefix in _prefixes(self._path):
            if value.startswith(prefix):
                return self.parse(value[len(prefix) :])
        found = value[: 2 + len(self._path)].hex(" ")
        raise RecordError("bad_framing", f"expected the indexes {self._path} of {self._name}, found bytes {found!r}")

    def _field(self, message: Any, field: Any, *, deep: bool) -> Any:
        """deep: read the fields of a nested message too."""
        found, kind = getattr(message, field.name), field.message_type
        if field.is_repeated:
            if kind is not None and kind.GetOptions().map_entry:
                value = kind.fields_by_name["value"]
                return {str(name): self._singular(found[name], value) for name in found}
            return [self._singular(one, field) for one in found]
        if field.has_presence:
            if not message.HasField(field.name):
                return None
        elif found in ("", b"") or (not found and field.name == self._time):
            return None
        if deep and kind is not None and not _is_scalar(kind):
            return {inner.name: self._field(found, inner, deep=False) for inner in kind.fields}
        return self._singular(found, field)

    def _singular(self, found: Any, field: Any) -> Any:
        """A single value; an empty object for a message that stands for no value."""
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


def _is_scalar(descriptor: Any) -> bool:
    """A message that stands for one value."""
    return descriptor.full_name == _TIMESTAMP or descriptor.full_name in _WRAPPERS


def _timestamp(found: Any) -> str:
    """ISO-8601 text with nanoseconds. RecordError bad_time outside protobuf's range."""
    if found.seconds not in _SECONDS or not 0 <= found.nanos < 1_000_000_000:
        raise RecordError(
            "bad_time", f"expected a {_TIMESTAMP} of the years 1..9999, found {found.seconds} s, {found.nanos} ns"
        )
    return iso_utc(found.seconds * 1_000_000_000 + found.nanos, 9)


def _descriptor(subscription: Subscription) -> Any:
    """The message's descriptor, from a pool for this subscription alone."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message

    content = read_schema_file(subscription)
    pool = descriptor_pool.DescriptorPool()
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(content).file
        for file in files:
            pool.Add(file)
    except (message.DecodeError, TypeError) as error:  # TypeError: also for a file whose imports are missing
        found = f"something else ({error})"
        raise bad_schema(subscription, "a descriptor set with all that it imports", found, hint=_HINT) from None
    name = subscription.message or ""
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        known = sorted(f"{file.package}.{one.name}".lstrip(".") for file in files for one in file.message_type)
        raise bad_schema(subscription, f"a message {name!r}", ", ".join(known) or "none", hint="set message") from None


def _path(descriptor: Any) -> list[int]:
    """The message indexes: the position of each enclosing type within its parent, outermost first."""
    outer = descriptor.containing_type
    siblings = descriptor.file.message_types_by_name.values() if outer is None else outer.nested_types
    return [*([] if outer is None else _path(outer)), [one.name for one in siblings].index(descriptor.name)]


def _prefixes(path: list[int]) -> list[bytes]:
    """The encodings of a path: its length and its parts; also a single zero for the first message."""
    whole = b"".join(map(_zigzag, [len(path), *path]))
    return [b"\x00", whole] if path == [0] else [whole]


def _zigzag(number: int) -> bytes:
    """A non-negative number as a zigzag varint."""
    number, out = number << 1, bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
