"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest

from stream_ad.errors import ConfigError
from stream_ad.timestamps import moment_ns

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
