"""Avro's binary encoding by the schema it was written with: https://avro.apache.org/docs/1.12.0/specification/

Single objects, without a container. Times with a logical type become ISO-8601 text; NaN is no reading.
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

_LEAST_BYTES = {"null": 0, "float": 4, "double": 8}  # of the other primitives 1
_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
# What fastavro raises over bytes that are not of the schema.
_REFUSED = (ArithmeticError, EOFError, LookupError, MemoryError, TypeError, ValueError, struct.error)
_DECIMAL = "stream-ad-decimal"
_DECIMAL_BYTES = 32


class AvroParser:
    """One datum a value: a record, or an array of records.

    Traps: fastavro's C code ends the process when data nest deeper than its stack, and counts to 2**63 where items take
    no bytes, so schemas that allow either are refused; a decimal of a megabyte takes it minutes, so long ones are
    refused. Data have no marks of their own: bytes of another schema may read as numbers, if rarely to their last byte.
    """

    def __init__(self, subscription: Subscription, max_observations: int) -> None:
        """max_observations: of an array. ConfigError when the schema is none, or fastavro is not installed."""
        try:
            import fastavro
        except ImportError:
            raise missing_library(subscription, "fastavro") from None
        text = read_schema_file(subscription)
        try:
            written: Any = _own_decimals(json.loads(text))
            self._many = isinstance(written, dict) and written.get("type") == "array"
            self._schema: Any = fastavro.parse_schema(written["items"] if self._many else written)
        except (
            fastavro.schema.SchemaParseException, AttributeError, LookupError, RecursionError, TypeError, ValueError,
        ) as error:  # fmt: skip
            said = f"another thing ({type(error).__name__}: {error})"
            raise bad_schema(subscription, "an Avro schema", said) from None
        if not _is_of_records(self._schema):
            found = self._schema["type"] if isinstance(self._schema, dict) else self._schema
            raise bad_schema(subscription, "a record or an array of records", str(found))
        _Sizes(subscription).least({"type": "array", "items": self._schema} if self._many else self._schema)
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
            found = self._array(stream) if self._many else self._decode(stream, self._schema, None)
        except _REFUSED as error:
            raise RecordError(
                "bad_avro", f"expected {self._name} in Avro, found {len(value)} bytes ({type(error).__name__})"
            ) from None
        if left := len(value) - stream.tell():
            raise RecordError("bad_avro", f"expected {self._name} in {stream.tell()} bytes, found {left} more")
        return _plain(found)

    def parse_indexed(self, value: bytes) -> Any:
        """Avro's messages have no indexes before them."""
        return self.parse(value)

    def _array(self, stream: BytesIO) -> list[Any]:
        """Blocks of counted messages up to an empty one; the count is judged before what it counts is read."""
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


def _is_of_records(schema: Any) -> bool:
    """A record, or a union of records."""
    if isinstance(schema, list):
        return any(map(_is_of_records, schema)) and all(one == "null" or _is_of_records(one) for one in schema)
    return isinstance(schema, dict) and schema.get("type") == "record"


def _own_decimals(schema: Any) -> Any:
    """The schema with its decimals under a name of our own, whose reader is ours too."""
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
    """As JSON would have it. Recurses as deep as the schema, which holds no type within itself."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return None if value != value else value  # noqa: PLR0124  # NaN


class _Sizes:
    """The fewest bytes that data of a schema take. ConfigError when they may nest without end, or items take none."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._known: dict[str, int | None] = {}  # None: being looked at

    def least(self, schema: Any) -> int:
        if isinstance(schema, list):
            return 1 + min(map(self.least, schema), default=0)
        if isinstance(schema, str):
            return self._of_name(schema)
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._of_record(schema)
        if kind in ("array", "map"):
            if self.least(schema["items" if kind == "array" else "values"]) == 0 and kind == "array":
                raise bad_schema(self._subscription, "items that take bytes", "an array of items that take none")
            return 1
        if kind in ("enum", "fixed"):
            self._known[schema["name"]] = 1 if kind == "enum" else self._fixed(schema)
            return self._of_name(schema["name"])
        return self.least(kind)

    def _of_record(self, schema: Any) -> int:
        name = schema["name"]
        self._known[name] = None
        size = sum(self.least(field["type"]) for field in schema["fields"])
        self._known[name] = size
        return size

    def _of_name(self, name: str) -> int:
        if name in _PRIMITIVES:
            return _LEAST_BYTES.get(name, 1)
        size = self._known.get(name)
        if size is None:
            raise bad_schema(self._subscription, "types that do not hold themselves", f"{name}, which does")
        return size

    def _fixed(self, schema: Any) -> int:
        size = schema["size"]
        if not isinstance(size, int):
            raise bad_schema(self._subscription, f"a whole number as the size of {schema['name']}", repr(size))
        return size
