"""Times as text: parsed as people write them, formatted as ISO-8601."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest

from stream_ad.errors import ConfigError
from stream_ad.timestamps import format_ns, iso_utc, moment_ns

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-1h", NOW - 3600 * SECOND),
        (" -30min ", NOW - 1800 * SECOND),
        ("-7d", NOW - 7 * 86400 * SECOND),
        ("+500ms", NOW + SECOND // 2),
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:01.5", 3 * SECOND // 2),
        ("1970-01-01T01:00:01+01:00", SECOND),
        ("1970-01-02", 86400 * SECOND),
    ],
)
def test_text(text: str, expected: int) -> None:
    assert moment_ns(text, now_ns=NOW) == expected


@pytest.mark.parametrize(
    "moment",
    [
        SECOND,
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 1),  # no zone counts as UTC
        datetime(1970, 1, 1, 2, 0, 1, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp(SECOND),
    ],
)
def test_objects(moment: int | datetime) -> None:
    assert moment_ns(moment) == SECOND


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "-", "1h", "--1h", "-1h ago", "2024-13-01", "12345"])
def test_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--start: expected a time such as .*found"):
        moment_ns(text, name="--start")


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1_500_000_000, "1970-01-01T00:00:01.5Z"), (-1, "1969-12-31T23:59:59.999999999Z")],
)
def test_times_as_text(time_ns: int, text: str) -> None:
    assert iso_utc(time_ns) == text


@pytest.mark.parametrize(
    ("digits", "text"),
    [(0, "1970-01-01T00:00:01Z"), (1, "1970-01-01T00:00:01.9Z"), (9, "1970-01-01T00:00:01.987654000Z")],
)
def test_decimals_are_cut_or_filled(digits: int, text: str) -> None:
    assert iso_utc(1_987_654_000, digits) == text


def test_microseconds_are_whole_or_left_out() -> None:
    assert format_ns(1_500_000_999) == "1970-01-01T00:00:01.500000Z"
    assert format_ns(1_000_000_999) == "1970-01-01T00:00:01Z"
