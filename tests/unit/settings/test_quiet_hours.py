"""Mute times of a route: days, nights across midnight, adjacent times, clocks that are put back."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.settings.quiet_hours import DAYS, muted_until_ns, parse_mute


def ns(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("mutes", "now", "until"),
    [  # 2026-01-02 is a Friday
        (["daily 12:00-13:00"], "2026-01-02T12:30", "2026-01-02T13:00"),
        (["daily 12:00-13:00"], "2026-01-02T13:00", None),
        (["Mon-Fri 22:00-06:00"], "2026-01-02T23:00", "2026-01-03T06:00"),
        (["Mon-Fri 22:00-06:00"], "2026-01-03T05:59", "2026-01-03T06:00"),
        (["Mon-Fri 22:00-06:00"], "2026-01-04T05:59", None),
        (["Sat,Sun 00:00-24:00"], "2026-01-03T08:00", "2026-01-05T00:00"),
        (["Fri 22:00-00:00", "Sat,Sun 00:00-24:00"], "2026-01-02T22:30", "2026-01-05T00:00"),
        (["Fri-Mon 10:00-11:00"], "2026-01-04T10:30", "2026-01-04T11:00"),
    ],
)
def test_muted_until(mutes: list[str], now: str, until: str | None) -> None:
    found = muted_until_ns([parse_mute(mute) for mute in mutes], UTC, ns(now))
    assert found == (None if until is None else ns(until))


def test_mute_times_use_the_time_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    mute = [parse_mute("daily 22:00-06:00")]
    assert muted_until_ns(mute, berlin, ns("2026-07-01T21:30")) == ns("2026-07-02T06:00", "Europe/Berlin")
    assert muted_until_ns(mute, berlin, ns("2026-07-01T19:30")) is None


@given(day=st.sampled_from(DAYS), begin=st.integers(0, 1439), end=st.integers(0, 1440), now=st.integers(0, 14 * 86400))
def test_a_mute_ends_after_now_and_its_end_is_not_muted(day: str, begin: int, end: int, now: int) -> None:
    if begin == end:
        return
    mute = [parse_mute(f"{day} {begin // 60:02d}:{begin % 60:02d}-{end // 60:02d}:{end % 60:02d}")]
    now_ns = ns("2026-01-01T00:00") + now * 10**9
    until = muted_until_ns(mute, UTC, now_ns)
    if until is not None:
        assert now_ns < until <= now_ns + 86400 * 10**9
        assert muted_until_ns(mute, UTC, until) is None


@pytest.mark.parametrize("text", ["", "daily", "Mon 8-9", "Mon 08:00-08:00", "Someday 08:00-09:00", "Mon 25:00-26:00"])
def test_an_invalid_mute_time_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_mute(text)
