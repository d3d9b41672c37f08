"""The JSON of an alert, the same on the topic, in the stores, over HTTP and in the SDK.

Each time is there twice: ISO-8601 UTC for people, integer nanoseconds (`*_ns`) for programs. Reading uses the integers
alone, so no precision is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import msgspec

from stream_ad import records
from stream_ad.errors import DataError
from stream_ad.timestamps import iso_utc

__all__ = ["AlertChannel", "AlertDocument", "alert_from_json", "alert_to_json"]


@dataclass(frozen=True, slots=True)
class AlertChannel:
    """One channel that drives an alert, at its peak. attribution: its share."""

    channel: str
    attribution: float | None
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class AlertDocument:
    """An episode, as on the alerts topic."""

    id: str
    series: str
    rule: str
    state: str
    severity: str
    start: str
    likely_start: str
    detected: str
    end: str | None
    updated: str
    peak: str
    peak_score: float | None
    channels: list[AlertChannel]
    model_version: str
    revision: int
    start_ns: int
    likely_start_ns: int
    detected_ns: int
    end_ns: int | None
    updated_ns: int
    peak_ns: int


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(AlertDocument)
_KEYS = tuple(field.name for field in fields(AlertDocument))
_TIMES = ("start", "likely_start", "detected", "end", "updated", "peak")


def alert_to_json(alert: records.Alert) -> bytes:
    """One JSON object, the keys those of `AlertDocument` in its order.

    Trap: JSON has no NaN or infinity; msgspec writes null for both, and `alert_from_json` returns NaN for null (None
    where None is a value: `actual`).
    """
    times_ns = {name: getattr(alert, f"{name}_ns") for name in _TIMES}
    texts = {name: None if time_ns is None else iso_utc(time_ns) for name, time_ns in times_ns.items()}
    return _ENCODER.encode({key: texts[key] if key in texts else getattr(alert, key) for key in _KEYS})


def alert_from_json(payload: bytes | str) -> records.Alert:
    """The alert that `alert_to_json` wrote; unknown keys are ignored. DataError for anything else."""
    try:
        found = _DECODER.decode(payload)
        state = records.AlertState(found.state)
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(f"expected an alert as JSON: {error}") from error
    values = {field.name: getattr(found, field.name) for field in fields(records.Alert)}
    channels = tuple(
        records.AlertChannel(
            c.channel, _number(c.attribution), c.actual, _number(c.expected), _number(c.lower), _number(c.upper)
        )
        for c in found.channels
    )
    return records.Alert(**values | {"state": state, "peak_score": _number(found.peak_score), "channels": channels})


def _number(value: float | None) -> float:
    return math.nan if value is None else value
