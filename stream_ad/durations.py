"""Durations and rates as text of the settings: "500ms", "1h30min", "1 per week"."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["Duration", "Rate", "duration_ns", "rate_per_s"]

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_ALIASES = {"m": "min", "sec": "s", "second": "s", "minute": "min", "hr": "h", "hour": "h", "day": "d", "week": "w"}
_PERIODS = {"week": "7d", "month": "30d", "year": "365d", "day": "1d", "hour": "1h", "minute": "1min"}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-zµ]+)\s*")
_MAX_NS = 2**63 - 1


def duration_ns(text: str) -> int:
    """Nanoseconds of "1s", "500ms", "5min", "1h30min", "1.5 days". ValueError unless it is a positive duration."""
    total, at = Fraction(0), 0
    while at < len(text) or not text:
        part = _PART.match(text, at)
        if part is None:
            raise ValueError(f"expected a duration with its unit, such as '1s', '500ms' or '5min', found {text!r}")
        total += Fraction(part[1]) * _unit_ns(part[2], text)
        at = part.end()
    if not 1 <= total <= _MAX_NS:
        raise ValueError(f"expected a positive duration, found {text!r}")
    return int(total)


def _unit_ns(word: str, text: str) -> int:
    """Ignores case and a plural s."""
    for unit in (word, word.lower(), word.lower().removesuffix("s")):
        found = _UNITS.get(_ALIASES.get(unit, unit))
        if found is not None:
            return found
    raise ValueError(f"expected a duration in one of {', '.join(_UNITS)}, found {text!r}")


def rate_per_s(text: str) -> float:
    """Events per second of "1 per week", "3 per day", "2 per 12h". ValueError unless it is a positive rate."""
    count, separator, period = text.partition(" per ")
    if not separator:
        raise ValueError(f"expected a rate such as '1 per week' or '3 per day', found {text!r}")
    period_ns = duration_ns(_PERIODS.get(period.strip(), period.strip()))
    try:
        number = float(count)
    except ValueError as error:
        raise ValueError(f"expected a number before 'per', found {count!r}") from error
    if not number > 0:
        raise ValueError(f"expected a positive rate, found {text!r}")
    return number / (period_ns / 1e9)


def _checked_by(parse: Callable[[str], float]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


Duration = Annotated[str, _checked_by(duration_ns)]
Rate = Annotated[str, _checked_by(rate_per_s)]
