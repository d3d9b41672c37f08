"""Scores, alerts and statuses as line protocol, built as text column by column.

Points (tags are `series`, `channel` and, on alerts, `rule`):

    score,series=S           score, severity, revision, model_version, alert_id       one per slot
    score,series=S,channel=C value, expected, lower, upper, attribution, imputed      one per slot and channel
    alert,series=S,rule=R    alert (JSON), id, state, severity, peak_score, ...       time = start of the episode
    status,series=S          status (JSON), state, slots_seen, ready_in_slots         time = the hour of writing

Traps: line protocol has no NaN and no infinity (such a field is left out; one invalid line fails the whole body); a tag
cannot be empty or end in a backslash (it would escape the separator), so MARK is appended to both, which the reader
removes; a line feed in a name would begin another line, so control characters are rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec
import numpy as np

from stream_ad.errors import DataError
from stream_ad.records import Alert, ScoreBatch, SeriesStatus, severity
from stream_ad.serde.alerts import alert_to_json
from stream_ad.timestamps import iso_utc

__all__ = ["MARK", "alert_lines", "score_lines", "status_lines", "string_field", "tag_value", "untag"]

MARK = "\u241b"  # SYMBOL FOR ESCAPE
_ESCAPES = str.maketrans({",": "\\,", " ": "\\ ", "=": "\\="})
_FIELDS = ("value", "expected", "lower", "upper", "attribution")
_ALL = (1 << len(_FIELDS)) - 1
_HOUR_NS = 3_600_000_000_000


@lru_cache(maxsize=65_536)
def tag_value(name: str) -> str:
    """The name as a tag's value, escaped. DataError: control characters or lone surrogates."""
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in name):
        raise DataError(f"a name with control characters cannot be stored: {name!r}")
    if not name or name[-1] in ("\\", MARK):
        name += MARK
    return name.translate(_ESCAPES)


def untag(value: str) -> str:
    """The name that `tag_value` wrote, from a tag's value as a query returns it."""
    return value[:-1] if value.endswith(MARK) else value


def string_field(text: str) -> str:
    """A quoted string field; line feeds are allowed inside."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def score_lines(batch: ScoreBatch, *, channel_detail: bool) -> Iterator[str]:
    """The slots' lines first, then each channel's."""
    times = batch.event_time_ns.tolist()
    head = f"score,series={tag_value(batch.series)}"
    yield from _slot_lines(batch, head, times)
    if channel_detail:
        for index, channel in enumerate(batch.channels):
            yield from _channel_lines(batch, index, f"{head},channel={tag_value(channel)}", times)


def _slot_lines(batch: ScoreBatch, head: str, times: Sequence[int]) -> Iterator[str]:
    version = string_field(batch.model_version)
    alerts = {alert: string_field(alert) for alert in set(batch.alert_id)}
    scores = np.nan_to_num(batch.score, nan=np.nan).tolist()  # infinity -> the largest float
    for time_ns, score, revision, alert in zip(times, scores, batch.revision.tolist(), batch.alert_id, strict=True):
        number = f'score={score!r},severity="{severity(score)}",' if score == score else ""  # noqa: PLR0124 (NaN)
        yield f"{head} {number}revision={revision}i,model_version={version},alert_id={alerts[alert]} {time_ns}"


def _channel_lines(batch: ScoreBatch, index: int, head: str, times: Sequence[int]) -> Iterator[str]:
    columns = [np.asarray(getattr(batch, name)[:, index]) for name in _FIELDS]
    present = sum(np.isfinite(column).astype(np.int64) << bit for bit, column in enumerate(columns))
    head = head.replace("%", "%%")
    templates: dict[int, str] = {}
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for time_ns, mask, row in zip(times, np.asarray(present).tolist(), rows, strict=True):
        template = templates.get(mask) or templates.setdefault(mask, _template(head, mask))
        values = row if mask == _ALL else tuple(v for bit, v in enumerate(row) if mask >> bit & 1)
        yield template % (*values, time_ns)


def _template(head: str, mask: int) -> str:
    """Nine digits round-trip a float32."""
    fields = [f"{name}=%.9g" for bit, name in enumerate(_FIELDS) if mask >> bit & 1]
    fields.append("imputed=f" if mask & 1 else "imputed=t")
    return f"{head} {','.join(fields)} %d"


def alert_lines(alerts: Sequence[Alert]) -> list[str]:
    """One line per episode, its last state in `alerts`. Series, rule and start identify an episode."""
    newest = {(alert.series, alert.rule, alert.start_ns): alert for alert in alerts}
    return [_alert_line(alert) for alert in newest.values()]


def _alert_line(alert: Alert) -> str:
    channel = max(alert.channels, key=lambda c: c.attribution).channel if alert.channels else ""
    texts = {
        "id": alert.id,
        "state": alert.state.value,
        "severity": alert.severity,
        "end": "" if alert.end_ns is None else iso_utc(alert.end_ns),
        "channel_first": channel,
        "model_version": alert.model_version,
        "alert": alert_to_json(alert).decode(),
    }
    fields = [f"{name}={string_field(text)}" for name, text in texts.items()]
    if np.isfinite(alert.peak_score):
        fields.append(f"peak_score={float(alert.peak_score)!r}")
    fields.append(f"revision={alert.revision}i,updated_ns={alert.updated_ns}i,peak_ns={alert.peak_ns}i")
    return f"alert,series={tag_value(alert.series)},rule={tag_value(alert.rule)} {','.join(fields)} {alert.start_ns}"


def status_lines(statuses: Sequence[SeriesStatus], now_ns: int) -> list[str]:
    """One line per series, its last status. Its time is the current hour: recent enough for any retention (InfluxDB
    would reject a fixed old time), and at most 24 points a day per series."""
    newest = {status.series: status for status in statuses}
    hour_ns = now_ns - now_ns % _HOUR_NS
    return [
        f"status,series={tag_value(one.series)} status={string_field(msgspec.json.encode(one).decode())},"
        f"state={string_field(one.state)},slots_seen={one.slots_seen}i,ready_in_slots={one.ready_in_slots}i {hour_ns}"
        for one in newest.values()
    ]
