"""Points in time as people write them: "-1h", "now", ISO-8601 text, a datetime, or nanoseconds."""

from __future__ import annotations

import time
from datetime import datetime

import pandas as pd

from stream_ad.durations import duration_ns
from stream_ad.errors import ConfigError, RecordError
from stream_ad.event_time import event_time_ns

__all__ = ["END_NS", "Moment", "moment_ns"]

Moment = str | int | datetime
"""Text ("-1h" = an hour ago, "+5min", "now", ISO-8601; no zone = UTC), nanoseconds since 1970, or a datetime."""

END_NS = 1 << 62
"""Later than any event time in use (the year 2116): an open end."""


def moment_ns(moment: Moment, *, name: str = "time", now_ns: int | None = None) -> int:
    """Nanoseconds UTC. ConfigError names `name`, what was expected and what was found."""
    if isinstance(moment, int):
        return moment
    if isinstance(moment, datetime):
        stamp = pd.Timestamp(moment)
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        return int(stamp.as_unit("ns").value)
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
