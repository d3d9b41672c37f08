"""Event times as integer nanoseconds UTC: parsed without losing a digit, formatted as ISO-8601."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Context
from typing import Final

from stream_ad.durations import duration_ns
from stream_ad.errors import ConfigError, RecordError, describe_found
from stream_ad.settings import TimeUnit

__all__ = [
    "END_NS",
    "UNIT_NS",
    "Moment",
    "describe_span",
    "event_time_ns",
    "format_ns",
    "iso_utc",
    "moment_ns",
    "range_ns",
]

Moment = str | int | datetime
"""Text ("-1h" = an hour ago, "+5min", "now", ISO-8601; no zone = UTC), nanoseconds since 1970, or a datetime."""

UNIT_NS: Final[dict[str, int]] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
END_NS: Final = 9_214_646_400_000_000_000  # 2262-01-01: slots round up, and int64 nanoseconds end on 2262-04-11
_EXACT = Context(prec=64)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:(?<=:\d\d:\d\d)[.,](\d+))? ?([Zz]|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


def moment_ns(moment: Moment, *, name: str = "time", now_ns: int | None = None) -> int:
    """Nanoseconds UTC of a `Moment`. ConfigError names `name`, what was expected and what was found."""
    if isinstance(moment, int):
        return moment
    if isinstance(moment, datetime):
        nanosecond: int = getattr(moment, "nanosecond", 0)  # of a pandas Timestamp
        return _since_epoch_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC)) * 1000 + nanosecond
    text = moment.strip()
    now_ns = time.time_ns() if now_ns is None else now_ns
    if text == "now":
        return now_ns
    try:
        if text[:1] in ("-", "+") and text[-1:].isalpha():  # a number alone would count nanoseconds
            span_ns = duration_ns(text[1:])
            return now_ns - span_ns if text[0] == "-" else now_ns + span_ns
        return event_time_ns(text, "ns", name)
    except (RecordError, ValueError):
        raise ConfigError(
            f"{name}: expected a time such as -1h, -30min, now or 2024-05-01T12:00:00Z, found {moment!r}"
        ) from None


def range_ns(start: Moment | None, stop: Moment | None, *, prefix: str = "") -> tuple[int, int]:
    """The half-open range [start, stop) in nanoseconds UTC; None = open. ConfigError names `prefix` + start or stop."""
    start_ns = 0 if start is None else moment_ns(start, name=f"{prefix}start")
    return start_ns, END_NS if stop is None else moment_ns(stop, name=f"{prefix}stop")


def event_time_ns(time: object, unit: TimeUnit, field: str) -> int:
    """Nanoseconds since 1970 UTC of a number in `unit` or of ISO-8601 text (no zone = UTC; digits past ns are cut).

    A float counts as the decimal number that it prints as, so 1700000000.123456 s keeps its microseconds.
    RecordError wrong_type, or bad_time: not a time, or outside 1970..2261.
    """
    if type(time) is int:
        time_ns = time * UNIT_NS[unit]
    elif isinstance(time, float):
        time_ns = _float_ns(time, unit, field)
    elif isinstance(time, str):
        time_ns = _iso_ns(time, field)
    else:
        raise RecordError("wrong_type", f"{field!r}: expected a number or ISO-8601 text, found {describe_found(time)}")
    if not 0 <= time_ns < END_NS:
        raise _out_of_range(time, field, "" if isinstance(time, str) else f" with time_unit = {unit!r}: check the unit")
    return time_ns


def _out_of_range(time: object, field: str, hint: str = "") -> RecordError:
    found = describe_found(time)
    return RecordError("bad_time", f"{field!r}: expected a time within 1970..2261, found {found}{hint}")


def _since_epoch_us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _float_ns(time: float, unit: TimeUnit, field: str) -> int:
    if not abs(time) < 1e19:  # beyond any time in any unit; NaN too
        raise _out_of_range(time, field)
    exact = _EXACT.multiply(_EXACT.create_decimal(repr(time)), UNIT_NS[unit])
    return int(exact.to_integral_value(context=_EXACT))


def _iso_ns(text: str, field: str) -> int:
    match = _ISO.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        date, clock, fraction, zone = match.groups()
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00'}{(zone or 'Z').upper()}")
    except ValueError:
        raise RecordError(
            "bad_time",
            f"{field!r}: expected ISO-8601 text such as 2024-05-01T12:00:00Z, found {describe_found(text)}",
        ) from None
    return _since_epoch_us(moment) * 1000 + int((fraction or "")[:9].ljust(9, "0"))


def iso_utc(time_ns: int, digits: int | None = None) -> str:
    """ISO-8601 UTC text, such as "2026-01-02T03:04:05.5Z".

    digits: decimals of the second, further ones are cut; None = as many as the time needs.
    """
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    decimals = f"{nanoseconds:09d}".rstrip("0") if digits is None else f"{nanoseconds:09d}"[:digits]
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
    return f"{text}.{decimals}Z" if decimals else f"{text}Z"


def format_ns(time_ns: int) -> str:
    """`iso_utc` to the microsecond: six decimals or none."""
    return iso_utc(time_ns, 6 if time_ns // 1000 % 1_000_000 else 0)


def describe_span(span_ns: int) -> str:
    """A span for people, such as "2:03:00" or "37 days, 0:00:00"."""
    return str(timedelta(microseconds=span_ns // 1000))
