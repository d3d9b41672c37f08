"""Scores and alerts as pandas data frames, and as single records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stream_ad.errors import DataError
from stream_ad.records import Alert, ScoreBatch, ScoreExtent, ScoreTrace, severity

__all__ = ["DETAILS", "Score", "alert_frame", "check_slots", "score_frame", "score_points", "trace_frame"]

DETAILS = ("value", "expected", "lower", "upper", "attribution")
MAX_SLOTS = 1_000_000
MAX_SLOTS_WITH_CHANNELS = 100_000
_ALERT_COLUMNS = [
    "series", "severity", "state", "rule", "likely_start", "end", "peak_score", "channel", "actual", "expected",
    "model_version", "id",
]  # fmt: skip
_COLUMNS = ("score", "severity", "revision", "alert_id", "model_version")


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one slot. The mappings are by channel; value None = no reading."""

    series: str
    time: pd.Timestamp
    score: float
    severity: str
    revision: int
    alert_id: str
    model_version: str
    value: Mapping[str, float | None]
    expected: Mapping[str, float]
    lower: Mapping[str, float]
    upper: Mapping[str, float]
    attribution: Mapping[str, float]


def score_frame(batches: Sequence[ScoreBatch], *, channels: bool = False) -> pd.DataFrame:
    """One row per slot, indexed by `time` (UTC): score, severity, revision, alert_id, model_version.

    channels adds value.<channel>, expected., lower., upper. and attribution.; NaN = no reading, or no such channel.
    """
    frames = [_frame(batch, channels) for batch in batches if len(batch)]
    if not frames:
        empty = pd.DatetimeIndex([], dtype="datetime64[ns, UTC]", name="time")
        return pd.DataFrame({name: pd.Series(dtype=object) for name in _COLUMNS}, index=empty)
    return pd.concat(frames).sort_index(kind="stable")


def trace_frame(trace: ScoreTrace) -> pd.DataFrame:
    """One row per point, indexed by `time` (UTC): score and severity."""
    index = pd.DatetimeIndex(trace.event_time_ns, tz="UTC", name="time")
    words = [severity(score) for score in trace.score.tolist()]
    return pd.DataFrame({"score": trace.score, "severity": pd.Series(words, index=index, dtype=object)}, index=index)


def alert_frame(alerts: Sequence[Alert]) -> pd.DataFrame:
    """One row per alert, indexed by `start` (UTC); the columns are those of `Client.alert_frame`."""
    rows = []
    for alert in alerts:
        first = alert.channels[0] if alert.channels else None
        rows.append(
            {
                "series": alert.series,
                "severity": alert.severity,
                "state": alert.state.value,
                "rule": alert.rule,
                "likely_start": pd.Timestamp(alert.likely_start_ns, tz="UTC"),
                "end": pd.NaT if alert.end_ns is None else pd.Timestamp(alert.end_ns, tz="UTC"),
                "peak_score": alert.peak_score,
                "channel": first.channel if first else "",
                "actual": np.nan if first is None or first.actual is None else first.actual,
                "expected": first.expected if first else np.nan,
                "model_version": alert.model_version,
                "id": alert.id,
            }
        )
    index = pd.DatetimeIndex([alert.start_ns for alert in alerts], dtype="datetime64[ns, UTC]", name="start")
    return pd.DataFrame(rows, index=index, columns=_ALERT_COLUMNS)


def check_slots(extent: ScoreExtent | None, series: str, *, channels: bool) -> None:
    """DataError when a range has too many slots for one frame."""
    limit = MAX_SLOTS_WITH_CHANNELS if channels else MAX_SLOTS
    if extent is not None and extent.slots > limit:
        detail = " with channels" if channels else ""
        raise DataError(
            f"series {series!r}: expected at most {limit} slots{detail} at once, found {extent.slots}",
            hint="choose a shorter range or max_points, or use Client.score_pages",
        )


def _frame(batch: ScoreBatch, channels: bool) -> pd.DataFrame:
    columns: dict[str, object] = {
        "score": batch.score,
        "severity": [severity(score) for score in batch.score.tolist()],
        "revision": batch.revision,
        "alert_id": list(batch.alert_id),
        "model_version": [batch.model_version] * len(batch),
    }
    if channels:
        for position, channel in enumerate(batch.channels):
            columns |= {f"{detail}.{channel}": getattr(batch, detail)[:, position] for detail in DETAILS}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(batch.event_time_ns, tz="UTC", name="time"))


def score_points(batches: Sequence[ScoreBatch]) -> list[Score]:
    """One record per slot, in the order of the batches."""
    return [_point(batch, row) for batch in batches for row in range(len(batch))]


def _point(batch: ScoreBatch, row: int) -> Score:
    def named(detail: str) -> dict[str, float]:
        return dict(zip(batch.channels, getattr(batch, detail)[row].tolist(), strict=True))

    score = float(batch.score[row])
    return Score(
        series=batch.series,
        time=pd.Timestamp(int(batch.event_time_ns[row]), tz="UTC"),
        score=score,
        severity=severity(score),
        revision=int(batch.revision[row]),
        alert_id=batch.alert_id[row],
        model_version=batch.model_version,
        value={channel: None if np.isnan(v) else v for channel, v in named("value").items()},
        expected=named("expected"),
        lower=named("lower"),
        upper=named("upper"),
        attribution=named("attribution"),
    )
