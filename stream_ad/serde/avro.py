"""Avro's binary encoding, read with the writer's schema: https://avro.apache.org/docs/1.12.0/specification/

Single objects, without a container file. Times with a logical type become ISO-8601 text; NaN becomes null.
"""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from stream_ad.errors import RecordError
from stream_ad.serde.schema_file import bad_schema, missing_library, read_schema_file
from stream_ad.settings import Subscription

__all__ = ["AvroParser"]

_MIN_BYTES = {"null": 0, "float": 4, "double": 8}  # other primitives: 1
_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
# What fastavro raises when the bytes do not match the schema.
_REFUSED = (ArithmeticError, EOFError, LookupError, MemoryError, TypeError, ValueError, struct.error)
_DECIMAL = "stream-ad-decimal"
_DECIMAL_BYTES = 32


class AvroParser:
    """Each value is one datum: a record, or an array of records.

    Traps: fastavro's C code kills the process when data nest deeper than its stack, and loops up to 2**63 times over
    items of zero bytes, so schemas that allow either are refused; a decimal of a megabyte takes it minutes, so long
    ones are refused. Avro data do not name their schema: bytes of another one may parse, if rarely to the last byte.
    """

    def __init__(self, subscription: Subscription, max_observations: int) -> None:
        """max_observations: limit for an array. ConfigError: not an Avro schema, or fastavro is not installed."""
        try:
            import fastavro
        except ImportError:
            raise missing_library(subscription, "fastavro") from None
        text = read_schema_file(subscription)
        try:
            schema: Any = _own_decimals(json.loads(text))
            self._is_array = isinstance(schema, dict) and schema.get("type") == "array"
            self._schema: Any = fastavro.parse_schema(schema["items"] if self._is_array else schema)
        except (
            fastavro.schema.SchemaParseException, AttributeError, LookupError, RecursionError, TypeError, ValueError,
        ) as error:  # fmt: skip
            problem = f"something else ({type(error).__name__}: {error})"
            raise bad_schema(subscription, "an Avro schema", problem) from None
        if not _is_record(self._schema):
            found = self._schema["type"] if isinstance(self._schema, dict) else self._schema
            raise bad_schema(subscription, "a record or an array of records", str(found))
        _SizeCheck(subscription).min_bytes({"type": "array", "items": self._schema} if self._is_array else self._schema)
        for kind in ("bytes", "fixed"):
            fastavro.read.LOGICAL_READERS[f"{kind}-{_DECIMAL}"] = _decimal
        self._name = str(self._schema["name"]) if isinstance(self._schema, dict) else "a union"
        self._long = fastavro.parse_schema("long")
        self._decode = fastavro.schemaless_reader
        self._max_observations = max_observations

    def parse(self, value: bytes) -> Any:
        """RecordError bad_avro, too_many_observations."""
        stream = BytesIO(value)
        try:
            found = self._array(stream) if self._is_array else self._decode(stream, self._schema, None)
        except _REFUSED as error:
            raise RecordError(
                "bad_avro", f"expected {self._name} in Avro, found {len(value)} bytes ({type(error).__name__})"
            ) from None
        if rest := stream.read():
            size = len(value) - len(rest)
            raise RecordError("bad_avro", f"expected {self._name} in {size} bytes, found {len(rest)} more")
        return _plain(found)

    def parse_indexed(self, value: bytes) -> Any:
        """The same: no message index precedes an Avro message."""
        return self.parse(value)

    def _array(self, stream: BytesIO) -> list[Any]:
        """Blocks of counted records up to an empty block; each count is checked before its records are read."""
        found: list[Any] = []
        while count := self._count(stream):
            if count < 0:  # the block's size in bytes follows
                count = -count
                self._count(stream)
            if len(found) + count > self._max_observations:
                raise RecordError(
                    "too_many_observations",
                    f"expected at most {self._max_observations} observations (detector.max_record_observations), "
                    f"found {len(found) + count}",
                )
            found += [self._decode(stream, self._schema, None) for _ in range(count)]
        return found

    def _count(self, stream: BytesIO) -> int:
        count = self._decode(stream, self._long, None)
        if not isinstance(count, int):
            raise TypeError(f"expected a count, found {count!r}")
        return count


def _is_record(schema: Any) -> bool:
    """A record, or a union of records."""
    if isinstance(schema, list):
        return any(map(_is_record, schema)) and all(one == "null" or _is_record(one) for one in schema)
    return isinstance(schema, dict) and schema.get("type") == "record"


def _own_decimals(schema: Any) -> Any:
    """The schema with each decimal under a logical type of our own, which `_decimal` reads."""
    if isinstance(schema, list):
        return [_own_decimals(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    own = {key: _own_decimals(one) for key, one in schema.items()}
    return own | {"logicalType": _DECIMAL} if schema.get("logicalType") == "decimal" else own


def _decimal(data: bytes, schema: Any = None, _: Any = None) -> float:
    """As a float: unscaled big-endian bytes over a power of ten."""
    if len(data) > _DECIMAL_BYTES:
        raise ValueError(f"expected a decimal of at most {_DECIMAL_BYTES} bytes, found {len(data)}")
    scale = int((schema or {}).get("scale", 0))
    return float(int.from_bytes(data, "big", signed=True) / 10**scale)


def _plain(value: Any) -> Any:
    """The value as JSON has it. Recurses no deeper than the schema, which is not recursive."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return None if value != value else value  # noqa: PLR0124  # NaN


class _SizeCheck:
    """The fewest bytes that data of a schema take. ConfigError for a recursive schema, and for items of zero bytes."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._known: dict[str, int | None] = {}  # None: under way, so a second visit is a recursion

    def min_bytes(self, schema: Any) -> int:
        if isinstance(schema, list):
            return 1 + min(map(self.min_bytes, schema), default=0)
        if isinstance(schema, str):
            return self._named(schema)
        kind = schema["type"]
        if kind in ("record", "error"):
            self._known[schema["name"]] = None
            size = self._known[schema["name"]] = sum(self.min_bytes(field["type"]) for field in schema["fields"])
            return size
        if kind in ("array", "map"):
            if self.min_bytes(schema["items" if kind == "array" else "values"]) == 0 and kind == "array":
                raise bad_schema(self._subscription, "items of at least one byte", "an array of items of zero bytes")
            return 1
        if kind in ("enum", "fixed"):
            self._known[schema["name"]] = 1 if kind == "enum" else self._fixed(schema)
            return self._named(schema["name"])
        return self.min_bytes(kind)

    def _named(self, name: str) -> int:
        if name in _PRIMITIVES:
            return _MIN_BYTES.get(name, 1)
        size = self._known.get(name)
        if size is None:
            raise bad_schema(self._subscription, "types that do not contain themselves", f"{name}, which does")
        return size

    def _fixed(self, schema: Any) -> int:
        size = schema["size"]
        if not isinstance(size, int):
            raise bad_schema(self._subscription, f"a whole number as the size of {schema['name']}", repr(size))
        return size
