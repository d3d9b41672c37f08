"""What the API answers, as types: they are the schema that /openapi.json shows. Times are ISO-8601 UTC."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from stream_ad.records import Alert, ScoreBatch, ScoreTrace, SeriesStatus, severity
from stream_ad.sdk.frames import DETAILS
from stream_ad.serde.alerts import alert_to_json, iso_utc

__all__ = [
    "AlertDocument",
    "AlertPage",
    "Lag",
    "Problem",
    "Scores",
    "SeriesDocument",
    "SeriesPage",
    "State",
    "alert_document",
    "scores_document",
    "status_document",
    "trace_document",
]


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    status: int
    title: str
    detail: str | None = None


class SeriesDocument(BaseModel):
    """How far a series is. ready_in_slots: slots until its first score."""

    series: str
    state: Literal["filling", "scoring"]
    detail: str
    channels: list[str]
    step_s: float | None
    slots_seen: int
    ready_in_slots: int
    memory_slots: int
    memory_capacity: int
    profile_version: str
    first_score: str | None
    last_score: str | None
    open_alerts: int


class SeriesPage(BaseModel):
    """series: in the order of their names. next: `after` of the page that follows."""

    series: list[SeriesDocument]
    total: int
    next: str | None


class Channel(BaseModel):
    """One channel at the times of the page; null = no reading, or no such channel then."""

    value: list[float | None]
    expected: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    attribution: list[float | None]


class Scores(BaseModel):
    """Scores in time order, column by column; 1 = the threshold.

    slots: how many there are in the range that was asked for; thinned: fewer are shown, with every peak among them. The
    columns after `severity` are there where it is not. next: `start` of the page that follows.
    """

    series: str
    slots: int
    thinned: bool
    time: list[str]
    score: list[float | None]
    severity: list[str]
    revision: list[int] | None = None
    alert_id: list[str] | None = None
    model_version: list[str] | None = None
    channels: dict[str, Channel] | None = None
    next: str | None = None


class AlertChannel(BaseModel):
    """One channel that drives an alert, at its peak. attribution: its share."""

    channel: str
    attribution: float | None
    actual: float | None
    expected: float | None
    lower: float | None
    upper: float | None


class AlertDocument(BaseModel):
    """An episode, as on the alerts topic."""

    id: str
    series: str
    rule: str
    state: str
    severity: str
    start: str
    likely_start: str
    detected: str
    end: str | None
    updated: str
    peak: str
    peak_score: float | None
    channels: list[AlertChannel]
    model_version: str
    revision: int
    start_ns: int
    likely_start_ns: int
    detected_ns: int
    end_ns: int | None
    updated_ns: int
    peak_ns: int


class AlertPage(BaseModel):
    """alerts: the newest first. next: `before` of the page that follows."""

    alerts: list[AlertDocument]
    next: str | None


class Lag(BaseModel):
    """How far the workers are behind in a partition, in records; committed null = never."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


class State(BaseModel):
    """The installation at a glance. lag: null without a broker. profiles: series by the version they score with."""

    version: str
    scorer: str
    store: str
    series: int
    scoring: int
    open_alerts: int
    profiles: dict[str, int]
    lag: list[Lag] | None


def alert_document(alert: Alert) -> Any:
    return json.loads(alert_to_json(alert))


def status_document(status: SeriesStatus) -> dict[str, Any]:
    def iso(time_ns: int | None) -> str | None:
        return None if time_ns is None else iso_utc(time_ns)

    kept = {name: getattr(status, name) for name in SeriesDocument.model_fields if hasattr(status, name)}
    times = {"first_score": iso(status.first_score_ns), "last_score": iso(status.last_score_ns)}
    step_s = None if status.step_ns is None else status.step_ns / 1e9
    return {**kept, **times, "step_s": step_s, "channels": list(status.channels)}


def trace_document(trace: ScoreTrace) -> Scores:
    return Scores(
        series=trace.series,
        slots=trace.slots,
        thinned=len(trace) < trace.slots,
        time=[iso_utc(time_ns) for time_ns in trace.event_time_ns.tolist()],
        score=_numbers(trace.score),
        severity=[severity(score) for score in trace.score.tolist()],
    )


def scores_document(
    series: str, slots: int, batches: Iterable[ScoreBatch], *, names: Sequence[str] | None, following: str | None
) -> Scores:
    """names: the channels to tell; None = all there are."""
    batches = list(batches)
    rows = [len(batch) for batch in batches]
    known = list(dict.fromkeys(name for batch in batches for name in batch.channels))
    told = known if names is None else [name for name in known if name in names]
    scores = [score for batch in batches for score in batch.score.tolist()]
    return Scores(
        series=series,
        slots=slots,
        thinned=False,
        time=[iso_utc(time_ns) for batch in batches for time_ns in batch.event_time_ns.tolist()],
        score=[None if math.isnan(score) else score for score in scores],
        severity=[severity(score) for score in scores],
        revision=[number for batch in batches for number in batch.revision.tolist()],
        alert_id=[alert for batch in batches for alert in batch.alert_id],
        model_version=[batch.model_version for batch, n in zip(batches, rows, strict=True) for _ in range(n)],
        channels={name: _channel(name, batches) for name in told} if told or names != [] else None,
        next=following,
    )


def _channel(name: str, batches: list[ScoreBatch]) -> Channel:
    columns: dict[str, list[float | None]] = {detail: [] for detail in DETAILS}
    for batch in batches:
        place = batch.channels.index(name) if name in batch.channels else None
        for detail in DETAILS:
            columns[detail] += [None] * len(batch) if place is None else _digits(getattr(batch, detail)[:, place])
    return Channel(**columns)


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in values.tolist()]


def _digits(values: NDArray[np.float32]) -> list[float | None]:
    """As many digits as single precision has: the rest would be noise, and half of the answer."""
    return [float(f"{number:.7g}") if math.isfinite(number) else None for number in values.tolist()]
