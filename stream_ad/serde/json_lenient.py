"""The slow path: JSON of unknown shape, parsed leniently and checked value by value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Set as AbstractSet
from typing import Any

from stream_ad.errors import SHOWN_CHARS, RecordError, describe_found, shorten

__all__ = ["MAX_READING", "NameCheck", "as_columns", "as_reading", "check_utf8", "parse_json"]

MAX_READING = 3.4028234663852886e38  # what float32 can hold
_CACHED_NAMES = 65_536
_MAX_INT_DIGITS = 400  # longer integers are beyond float64, hence parsed as infinite floats
# C0, DEL and C1 controls, line and paragraph separators, and lone surrogates, which no sink can encode
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_utf8(value: bytes) -> None:
    """RecordError broken_json. Trap: msgspec does not check the bytes of fields that it skips."""
    if value.isascii():
        return
    try:
        value.decode()
    except UnicodeDecodeError as error:
        found = shorten(repr(value[error.start : error.start + 16]))
        raise RecordError("broken_json", f"expected UTF-8, found {found} at byte {error.start}") from None


def parse_json(value: bytes) -> Any:
    """Accepts what msgspec refuses: NaN, Infinity, numbers out of range, a byte order mark.

    RecordError broken_json: not UTF-8, not JSON, or nested too deep.
    """
    check_utf8(value)
    try:
        return json.loads(value.decode("utf-8-sig"), parse_int=_parse_int)
    except RecursionError:
        raise RecordError("broken_json", "expected JSON, found brackets nested too deep") from None
    except ValueError as error:
        found = shorten(repr(value[: SHOWN_CHARS + 1]))
        raise RecordError("broken_json", f"expected JSON, found {found} ({error})") from None


def _parse_int(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_INT_DIGITS else float(text)


def as_reading(channel: str, reading: object) -> float:
    """A finite float, or NaN for null and for what float32 cannot hold. RecordError wrong_type."""
    if reading is None:
        return math.nan
    if isinstance(reading, bool) or not isinstance(reading, int | float):
        found = describe_found(reading)
        raise RecordError("wrong_type", f"channel {shorten(repr(channel))}: expected a number or null, found {found}")
    try:
        number = float(reading)
    except OverflowError:
        return math.nan
    return number if abs(number) <= MAX_READING else math.nan


def as_columns(readings: dict[str, Any]) -> dict[str, list[Any]]:
    """`readings`, once every channel's readings are known to be an array. RecordError wrong_type."""
    for channel, column in readings.items():
        if not isinstance(column, list):
            found = describe_found(column)
            raise RecordError(
                "wrong_type", f"channel {shorten(repr(channel))}: expected an array like the times, found {found}"
            )
    return readings


class NameCheck:
    """Names of series and channels: 1..max_chars characters, no control characters. Caches valid names (bounded)."""

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._valid: set[str] = set()

    def check(self, kind: str, names: AbstractSet[str]) -> None:
        """RecordError bad_name for the first invalid name."""
        if names <= self._valid:
            return
        for name in names:
            if not 1 <= len(name) <= self._max_chars:
                found = f"{len(name)} characters" if name else "an empty one"
                expected = f"1..{self._max_chars} characters (detector.max_name_chars)"
                raise RecordError("bad_name", f"{kind} name: expected {expected}, found {found}")
            if _FORBIDDEN.search(name):
                found = describe_found(name)
                raise RecordError("bad_name", f"{kind} name: expected no control characters, found {found}")
        if len(self._valid) + len(names) > _CACHED_NAMES:
            self._valid.clear()
        self._valid.update(names)
