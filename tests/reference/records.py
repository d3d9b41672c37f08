"""What a record means, decided the plain way and without the product's code: the judge of the hostile records.

Default field names, times in ms, the default limits. No speed, no words: readings, and whether anything was refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

MAX_BYTES = 1_000_000
MAX_CHANNELS = 1024
AHEAD_NS = 300 * 10**9
END_NS = int(datetime(2262, 1, 1, tzinfo=UTC).timestamp()) * 10**9
_TEXT_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_LARGEST = 3.4028234663852886e38  # of float32


class _Refused(Exception):
    """This element cannot be an observation."""


@dataclass(frozen=True)
class Reading:
    """One observation; NaN = no reading."""

    series: str
    time_ns: int
    values: dict[str, float]


def judge(value: bytes | None, key: bytes | None, record_ms: int) -> tuple[list[Reading], bool]:
    """The readings that a record holds, and whether any part of it has to be refused."""
    try:
        document = _parse(value)
    except (_Refused, ValueError, RecursionError):
        return [], True
    elements = document if isinstance(document, list) else [document]
    readings: list[Reading] = []
    refused = not elements
    for element in elements:
        try:
            more, bad = _element(element, key, record_ms)
        except _Refused:
            refused = True
        else:
            readings += more
            refused |= bad
    return readings, refused


def _parse(value: bytes | None) -> Any:
    if value is None or not value.strip() or len(value) > MAX_BYTES:
        raise _Refused
    text = value.decode("utf-8")
    return json.loads(text.removeprefix("\ufeff"), parse_int=lambda s: int(s) if len(s) < 300 else float(s))


def _element(element: Any, key: bytes | None, record_ms: int) -> tuple[list[Reading], bool]:
    if not isinstance(element, dict):
        raise _Refused
    values, series = element.get("values"), element.get("series")
    if not isinstance(values, dict) or not values or len(values) > MAX_CHANNELS:
        raise _Refused
    if series is None:
        series = (key or b"").decode("utf-8", "surrogateescape")
    for name in (series, *values):
        _check_name(name)
    if element.get("time") is not None:
        return [Reading(series, _time(element["time"], record_ms), {c: _number(v) for c, v in values.items()})], False
    times = element.get("times")
    if not isinstance(times, list) or not times:
        raise _Refused
    for column in values.values():
        if not isinstance(column, list) or len(column) != len(times):
            raise _Refused
    columns = {channel: [_number(v) for v in column] for channel, column in values.items()}
    readings: list[Reading] = []
    for row, time in enumerate(times):
        with contextlib.suppress(_Refused):
            readings.append(Reading(series, _time(time, record_ms), {c: column[row] for c, column in columns.items()}))
    return readings, len(readings) < len(times)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= 256:
        raise _Refused
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise _Refused


def _time(time: Any, record_ms: int) -> int:
    if isinstance(time, str):
        found = _TEXT_TIME.fullmatch(time)
        if found is None:
            raise _Refused
        try:
            moment = datetime.fromisoformat(found[1] + "+00:00")
        except ValueError:
            raise _Refused from None
        time_ns = int(moment.timestamp()) * 10**9 + int((found[2] or "").ljust(9, "0"))
    elif isinstance(time, bool) or not isinstance(time, int | float) or not abs(time) < 1e19:
        raise _Refused
    else:
        time_ns = int(Decimal(repr(time)) * 10**6)
    if not 0 <= time_ns < END_NS or (record_ms > 0 and time_ns > record_ms * 10**6 + AHEAD_NS):
        raise _Refused
    return time_ns


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Refused
    return float(value) if abs(value) <= _LARGEST else math.nan
