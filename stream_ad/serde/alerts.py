"""The JSON of an alert, the same on the topic, in the stores and in the SDK.

Times travel twice: ISO-8601 UTC for people, integer nanoseconds (`*_ns`) for machines. Reading uses the integers
alone, so nothing is lost to a text's precision.
"""

from __future__ import annotations

import msgspec
import numpy as np

from stream_ad.errors import DataError
from stream_ad.records import Alert, AlertChannel, AlertState

__all__ = ["alert_from_json", "alert_to_json", "iso_utc"]


class _WireChannel(msgspec.Struct, frozen=True):
    channel: str
    attribution: float | None
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None


class _Wire(msgspec.Struct, frozen=True):
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
    channels: tuple[_WireChannel, ...]
    model_version: str
    revision: int
    start_ns: int
    likely_start_ns: int
    detected_ns: int
    end_ns: int | None
    updated_ns: int
    peak_ns: int


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Wire)


def iso_utc(time_ns: int) -> str:
    """ "2026-01-02T03:04:05Z", with as many decimals as the time has."""
    text = str(np.datetime64(time_ns, "ns"))
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def alert_to_json(alert: Alert) -> bytes:
    """One JSON object; channels with actual (null = no reading), expected, lower, upper and attribution.

    Trap: JSON has no NaN or infinity; msgspec writes null for both, which `alert_from_json` takes back as NaN
    (as None where None is a value: `actual`).
    """
    return _ENCODER.encode(
        _Wire(
            id=alert.id,
            series=alert.series,
            rule=alert.rule,
            state=alert.state.value,
            severity=alert.severity,
            start=iso_utc(alert.start_ns),
            likely_start=iso_utc(alert.likely_start_ns),
            detected=iso_utc(alert.detected_ns),
            end=None if alert.end_ns is None else iso_utc(alert.end_ns),
            updated=iso_utc(alert.updated_ns),
            peak=iso_utc(alert.peak_ns),
            peak_score=alert.peak_score,
            channels=tuple(
                _WireChannel(c.channel, c.attribution, c.actual, c.expected, c.lower, c.upper) for c in alert.channels
            ),
            model_version=alert.model_version,
            revision=alert.revision,
            start_ns=alert.start_ns,
            likely_start_ns=alert.likely_start_ns,
            detected_ns=alert.detected_ns,
            end_ns=alert.end_ns,
            updated_ns=alert.updated_ns,
            peak_ns=alert.peak_ns,
        )
    )


def alert_from_json(payload: bytes | str) -> Alert:
    """The alert that `alert_to_json` wrote; unknown keys are skipped. DataError when it is not one."""
    try:
        wire = _DECODER.decode(payload)
        state = AlertState(wire.state)
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(f"expected an alert as JSON: {error}") from error
    return Alert(
        id=wire.id,
        series=wire.series,
        rule=wire.rule,
        state=state,
        start_ns=wire.start_ns,
        likely_start_ns=wire.likely_start_ns,
        detected_ns=wire.detected_ns,
        end_ns=wire.end_ns,
        updated_ns=wire.updated_ns,
        peak_score=_number(wire.peak_score),
        peak_ns=wire.peak_ns,
        channels=tuple(_channel(channel) for channel in wire.channels),
        model_version=wire.model_version,
        revision=wire.revision,
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _channel(wire: _WireChannel) -> AlertChannel:
    return AlertChannel(
        channel=wire.channel,
        attribution=_number(wire.attribution),
        actual=wire.actual,
        expected=_number(wire.expected),
        lower=_number(wire.lower),
        upper=_number(wire.upper),
    )
