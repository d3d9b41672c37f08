"""Response models of the API, the schema in /openapi.json. Times are ISO-8601 UTC."""

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
from stream_ad.serde.alerts import AlertDocument, alert_to_json
from stream_ad.timestamps import iso_utc

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
    """An error, as RFC 9457 defines it."""

    status: int
    title: str
    detail: str | None = None


class SeriesDocument(BaseModel):
    """Progress of a series. ready_in_slots: slots until its first score."""

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
    """series: ordered by name. next: `after` of the next page."""

    series: list[SeriesDocument]
    total: int
    next: str | None


class Channel(BaseModel):
    """One channel at the times of the page; null = no reading, or the channel did not exist."""

    value: list[float | None]
    expected: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    attribution: list[float | None]


class Scores(BaseModel):
    """Scores in time order, column by column; 1 = the threshold.

    slots: number in the requested range. thinned: downsampled, with every peak, without the columns after `severity`.
    next: `start` of the next page.
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


class AlertPage(BaseModel):
    """alerts: the newest first. next: `before` of the next page."""

    alerts: list[AlertDocument]
    next: str | None


class Lag(BaseModel):
    """Consumer lag of the workers in a partition, in records; committed null = nothing committed yet."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


class State(BaseModel):
    """Overview of the installation. lag: null without a broker. profiles: number of series per profile version."""

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

    fields = {name: getattr(status, name) for name in SeriesDocument.model_fields if hasattr(status, name)}
    times = {"first_score": iso(status.first_score_ns), "last_score": iso(status.last_score_ns)}
    step_s = None if status.step_ns is None else status.step_ns / 1e9
    return {**fields, **times, "step_s": step_s, "channels": list(status.channels)}


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
    """names: the channels to include; None = all."""
    batches = list(batches)
    rows = [len(batch) for batch in batches]
    known = list(dict.fromkeys(name for batch in batches for name in batch.channels))
    shown = known if names is None else [name for name in known if name in names]
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
        channels={name: _channel(name, batches) for name in shown} if shown or names != [] else None,
        next=following,
    )


def _channel(name: str, batches: list[ScoreBatch]) -> Channel:
    columns: dict[str, list[float | None]] = {detail: [] for detail in DETAILS}
    for batch in batches:
        column = batch.channels.index(name) if name in batch.channels else None
        for detail in DETAILS:
            columns[detail] += [None] * len(batch) if column is None else _digits(getattr(batch, detail)[:, column])
    return Channel(**columns)


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in values.tolist()]


def _digits(values: NDArray[np.float32]) -> list[float | None]:
    """Seven digits, the precision of float32: more would be noise, and double the response."""
    return [float(f"{number:.7g}") if math.isfinite(number) else None for number in values.tolist()]
