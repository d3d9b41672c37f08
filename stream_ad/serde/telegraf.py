"""Telegraf JSON, InfluxDB line protocol and one-reading messages -> the objects that the decoder checks.

A metric's series is its measurement with its tags, sorted: `cpu,core=0,host=a`. Text fields are ignored. A one-reading
message names its series in a field or in the record's key, and its channel in another field.
Formats: Telegraf's `json` serializer; https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from stream_ad.errors import ConfigError, RecordError, describe_found
from stream_ad.serde.json_lenient import parse_json
from stream_ad.settings import Subscription

__all__ = ["PayloadParser"]

Metric = tuple[Any, Any, dict[str, Any]]  # series (None: the record's key), time, readings

_NAME = r"(?:[^\\,= ]|\\.)+"
_MEASUREMENT = re.compile(r"(?:[^\\, ]|\\.)+")
_TAG = re.compile(rf",({_NAME})=({_NAME})")
_FIELD = re.compile(rf'({_NAME})=("(?:[^"\\]|\\.)*"|[^", ]+)')
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[iu]?")
_TIME = re.compile(r" +(-?[0-9]{1,19}) *")
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), 1.0) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), 0.0
)
_ESCAPED = re.compile(r"\\([,= ])")


class PayloadParser:
    """Parses the values of a subscription whose `format` is not "json". ConfigError when values_field is empty."""

    def __init__(self, subscription: Subscription) -> None:
        if not subscription.values_field:
            raise ConfigError(f"format {subscription.format!r} needs values_field, found an empty one")
        self._fields = (subscription.series_field, subscription.time_field, subscription.values_field)
        self._reading = (subscription.channel_field, subscription.value_field)
        named = [subscription.series_field, subscription.time_field, *self._reading]
        if subscription.format == "sensor" and len(set(named)) != len(named):
            raise ConfigError(f"the fields of format 'sensor' must differ, found {named}")
        formats = {"telegraf": _telegraf, "line": _lines, "sensor": self._sensors}
        self._metrics: Callable[[bytes], list[Metric]] = formats[subscription.format]

    def parse(self, value: bytes) -> list[dict[str, Any]]:
        """Metrics under the subscription's field names. RecordError: one bad metric rejects the whole record."""
        return [dict(zip(self._fields, metric, strict=True)) for metric in self._metrics(value)]

    def _sensors(self, value: bytes) -> list[Metric]:
        document = parse_json(value)
        return [self._sensor(one) for one in (document if isinstance(document, list) else [document])]

    def _sensor(self, message: Any) -> Metric:
        if not isinstance(message, dict):
            raise RecordError("wrong_type", f"expected an object, found {describe_found(message)}")
        channel_field, value_field = self._reading
        for name in self._reading:
            if name not in message:
                raise RecordError("missing_field", f"expected field {name!r}, found none")
        channel, reading = message[channel_field], message[value_field]
        if not isinstance(channel, str):
            raise RecordError("wrong_type", f"{channel_field!r}: expected text, found {describe_found(channel)}")
        series, time, _ = self._fields
        return message.get(series), message.get(time), {channel: reading}


def _telegraf(value: bytes) -> list[Metric]:
    document = parse_json(value)
    batch = document.get("metrics", [document]) if isinstance(document, dict) else document
    if not isinstance(batch, list):
        raise RecordError("wrong_type", f"expected a metric or an array of them, found {describe_found(batch)}")
    return [_metric(metric, f"metric {index}") for index, metric in enumerate(batch)]


def _metric(metric: Any, where: str) -> Metric:
    if not isinstance(metric, dict):
        raise RecordError("wrong_type", f"{where}: expected an object, found {describe_found(metric)}")
    name, tags, fields = metric.get("name"), metric.get("tags", {}), metric.get("fields")
    for key, found, kind in (("name", name, str), ("tags", tags, dict), ("fields", fields, dict)):
        if not isinstance(found, kind):
            wanted = "text" if kind is str else "an object"
            raise RecordError("wrong_type", f"{where}: {key!r}: expected {wanted}, found {describe_found(found)}")
    assert isinstance(name, str)
    assert isinstance(fields, dict)
    readings = {k: float(v) if isinstance(v, bool) else v for k, v in fields.items() if not isinstance(v, str)}
    return _series(name, {k: str(v) for k, v in tags.items()}), metric.get("timestamp"), readings


def _lines(value: bytes) -> list[Metric]:
    lines = [line.strip("\r ") for line in value.decode().split("\n")]
    return [_line(text, f"line {n}") for n, text in enumerate(lines, 1) if text and not text.startswith("#")]


def _line(text: str, where: str) -> Metric:
    found = _MEASUREMENT.match(text)
    if found is None:
        raise _bad(where, "a measurement", text)
    name, tags = found[0], {}
    end = found.end()
    while tag := _TAG.match(text, end):
        tags[_plain(tag[1])], end = _plain(tag[2]), tag.end()
    readings: dict[str, Any] = {}
    separator = " "
    while text[end : end + 1] == separator and (field := _FIELD.match(text, end + 1)):
        if not field[2].startswith('"'):
            readings[_plain(field[1])] = _number(field[2], where)
        end, separator = field.end(), ","
    time = _TIME.fullmatch(text, end)
    if separator == " " or (time is None and end < len(text)):
        raise _bad(where, "measurement,tags fields time", text[end:])
    return _series(_plain(name), tags), int(time[1]) if time else None, readings


def _number(text: str, where: str) -> float:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if (number := _NUMBER.fullmatch(text)) is None:
        raise _bad(where, "a number, a boolean or quoted text", text)
    return float(number[1])


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _series(name: str, tags: dict[str, str]) -> str:
    return ",".join([name, *(f"{key}={tags[key]}" for key in sorted(tags))])


def _bad(where: str, expected: str, found: str) -> RecordError:
    return RecordError("bad_line", f"{where}: expected {expected}, found {describe_found(found)}")
