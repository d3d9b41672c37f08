"""Mute times of a route: "Mon-Fri 22:00-06:00", "Sat,Sun 00:00-24:00", "daily 12:00-13:00"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["Mute", "muted_until_ns", "parse_mute"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(r"(?P<days>\S+)\s+(?P<h1>\d\d):(?P<m1>[0-5]\d)-(?P<h2>\d\d):(?P<m2>[0-5]\d)")
_CHAIN = 16  # adjacent mute times that are joined: more than a week of them


@dataclass(frozen=True, slots=True)
class Mute:
    """From `begin_min` to `end_min` (minutes of the day) on each of `days`; an end <= begin is on the next day."""

    days: frozenset[int]
    begin_min: int
    end_min: int


def parse_mute(text: str) -> Mute:
    """ValueError states the expected form."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected days and times such as 'Mon-Fri 22:00-06:00', found {text!r}")
    begin, end = (60 * int(match[f"h{i}"]) + int(match[f"m{i}"]) for i in (1, 2))
    if begin >= 24 * 60 or end > 24 * 60:
        raise ValueError(f"expected times from 00:00 to 24:00, found {text!r}")
    if begin == end:
        raise ValueError(f"expected two times that differ, found {text!r}")
    return Mute(_days(match["days"], text), begin, end)


def _days(words: str, text: str) -> frozenset[int]:
    if words.lower() == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in words.lower().split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"expected 'daily' or days such as 'Mon-Fri' or 'Sat,Sun', found {text!r}")
        at, to = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(at, to + 1 if to >= at else to + 8)}
    return frozenset(found)


def muted_until_ns(mutes: Sequence[Mute], zone: tzinfo, now_ns: int) -> int | None:
    """End of the current mute time and of those that follow without a gap; None = not muted now."""
    until_ns: int | None = None
    for _ in range(_CHAIN):
        ends = [end for mute in mutes if (end := _end_ns(mute, zone, until_ns or now_ns)) is not None]
        if not ends:
            break
        until_ns = max(ends)
    return until_ns


def _end_ns(mute: Mute, zone: tzinfo, now_ns: int) -> int | None:
    local = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).astimezone(zone).replace(tzinfo=None)
    for back in (0, 1):
        midnight = datetime(local.year, local.month, local.day) - timedelta(days=back)
        begin = midnight + timedelta(minutes=mute.begin_min)
        end = midnight + timedelta(minutes=mute.end_min, days=mute.end_min <= mute.begin_min)
        if midnight.weekday() in mute.days and begin <= local < end:
            # in the hour that repeats when clocks are put back, the end may already seem to be past
            return max(int(end.replace(tzinfo=zone).timestamp()) * 1_000_000_000, now_ns + 1_000_000_000)
    return None
