"""The obvious, slow way of each algorithm; the product's code must give the same."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

from stream_ad.errors import RecordError
from stream_ad.event_time import event_time_ns
from stream_ad.records import Observation


def decode(value: bytes, key: str, record_ns: int, ahead_ns: int) -> tuple[list[Observation], set[str]]:
    """Default field names, unit ms, no limits on size or number: observations and the reasons of the faults."""
    document = json.loads(value)
    observations: list[Observation] = []
    reasons: set[str] = set()
    for element in document if isinstance(document, list) else [document]:
        try:
            for row in _rows(element, reasons, record_ns, ahead_ns, key):
                observations.append(row)
        except RecordError as error:
            reasons.add(error.reason)
    return observations, reasons


def _rows(element: Any, reasons: set[str], record_ns: int, ahead_ns: int, key: str) -> list[Observation]:
    values, times = element.get("values"), element.get("times")
    if values is None:
        raise RecordError("missing_field", "values")
    if not isinstance(values, dict):
        raise RecordError("wrong_type", "values")
    series = element["series"] if element.get("series") is not None else key
    if element.get("time") is not None or times is None:
        _check_series(series)
        time_ns = _time(element.get("time"), record_ns, ahead_ns)
        _check_names(values)
        return [Observation(series, time_ns, {k: _reading(v) for k, v in values.items()})]
    if not all(isinstance(v, list) for v in values.values()) or not isinstance(times, list):
        raise RecordError("wrong_type", "columns")
    _check_series(series)
    _check_names(values)
    if any(len(v) != len(times) for v in values.values()):
        raise RecordError("wrong_length", "columns")
    if not times:
        raise RecordError("no_values", "columns")
    table = [{k: _reading(v[i]) for k, v in values.items()} for i in range(len(times))]
    rows = []
    for time, readings in zip(times, table, strict=True):
        try:
            rows.append(Observation(series, _time(time, record_ns, ahead_ns), readings))
        except RecordError as error:
            reasons.add(error.reason)
    return rows


def _check_series(series: Any) -> None:
    if not isinstance(series, str):
        raise RecordError("wrong_type", "series")
    _check_name(series)


def _check_names(values: dict[str, Any]) -> None:
    if not values:
        raise RecordError("no_values", "values")
    for name in values:
        _check_name(name)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 256 or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise RecordError("bad_name", name)


def _time(time: Any, record_ns: int, ahead_ns: int) -> int:
    if time is None:
        raise RecordError("missing_field", "time")
    time_ns = event_time_ns(time, "ms", "time")
    if time_ns > record_ns + ahead_ns:
        raise RecordError("future", "time")
    return time_ns


def _reading(reading: Any) -> float:
    if reading is None:
        return math.nan
    if type(reading) not in (int, float):
        raise RecordError("wrong_type", "reading")
    return float(reading) if abs(reading) <= 1.7976931348623157e308 else math.nan
