"""Avro and Protobuf messages -> the objects that the decoder checks.

framing = "confluent": a zero byte and a 4-byte schema id precede the message; in Protobuf also the message index.
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stream_ad.errors import RecordError, describe_found
from stream_ad.serde.avro import AvroParser
from stream_ad.serde.protobuf import ProtobufParser
from stream_ad.settings import Subscription

__all__ = ["schema_parser"]

_HEADER_BYTES = 5  # zero, and the schema id


def schema_parser(subscription: Subscription, max_observations: int) -> Callable[[bytes], Any]:
    """The parser of a subscription of format avro or protobuf; it raises RecordError for bytes of another schema.

    ConfigError: the schema file cannot be read or holds no schema, or the format's library is not installed.
    """
    parser = (
        AvroParser(subscription, max_observations) if subscription.format == "avro" else ProtobufParser(subscription)
    )
    if subscription.framing == "plain":
        return parser.parse
    return lambda value: parser.parse_indexed(_unframed(value))


def _unframed(value: bytes) -> bytes:
    if len(value) < _HEADER_BYTES or value[0] != 0:
        found = describe_found(value[:_HEADER_BYTES].hex(" "))
        raise RecordError("bad_framing", f"expected a zero byte and a 4-byte schema id, found {found}")
    return value[_HEADER_BYTES:]
