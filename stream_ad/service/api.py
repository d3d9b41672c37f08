"""/api/v1: the functions of the SDK over HTTP, in pages and within limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from stream_ad.errors import ConfigError
from stream_ad.records import Alert, AlertState, ScoreBatch
from stream_ad.sdk.client import Client
from stream_ad.service.auth import Admin, Reader, Writer
from stream_ad.service.dependencies import StateDep
from stream_ad.service.live_feed import Event, Feed
from stream_ad.service.schemas import (
    AlertDocument,
    AlertPage,
    Scores,
    SeriesPage,
    State,
    alert_document,
    scores_document,
    status_document,
    trace_document,
)
from stream_ad.timestamps import END_NS, iso_utc, range_ns
from stream_ad.wiring import open_subscriptions
from stream_ad.wiring.subscriptions import list_subscriptions

__all__ = ["router"]

router = APIRouter(prefix="/api/v1")
MAX_PAGE, MAX_CELLS, MAX_POINTS = 10_000, 200_000, 10_000
Start = Annotated[str | None, Query(description="-1h, ISO-8601 (no zone = UTC); none = from the first")]
Stop = Annotated[str | None, Query(description="end, exclusive; none = to the last")]


@router.get("/series", tags=["series"], response_model=SeriesPage)
def series(
    principal: Reader,
    state: StateDep,
    match: Annotated[str, Query(description="shell pattern of names, such as pump-*")] = "*",
    after: Annotated[str | None, Query(description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> dict[str, Any]:
    """Every series and its progress."""
    found = [one for one in state.store.statuses.statuses() if fnmatchcase(one.series, match)]
    rest = [one for one in sorted(found, key=lambda one: one.series) if after is None or one.series > after]
    page = rest[:limit]
    following = page[-1].series if len(rest) > limit else None
    return {"series": [status_document(one) for one in page], "total": len(found), "next": following}


@router.get("/series/{series:path}/scores", tags=["series"])
def scores(
    principal: Reader,
    state: StateDep,
    series: str,
    start: Start = None,
    stop: Stop = None,
    max_points: Annotated[
        int | None, Query(ge=2, le=MAX_POINTS, description="downsample to at most this many points, keeping the peaks")
    ] = None,
    channels: Annotated[bool, Query(description="include value, expected, band and attribution by channel")] = False,
    channel: Annotated[list[str] | None, Query(description="only these channels; may be repeated")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="slots per page")] = 1_000,
) -> Scores:
    """Scores of a time range: downsampled to max_points for a plot, else page by page with every field of each slot.

    With channels, a page holds at most 200,000 readings.
    """
    start_ns, stop_ns = range_ns(start, stop)
    reader, channels = state.store.scores, channels or bool(channel)
    if max_points is not None:
        if channels:
            raise ConfigError("max_points downsamples the score alone", hint="leave out channels, or max_points")
        return trace_document(reader.score_trace(series, start_ns, stop_ns, max_points=max_points))
    extent = reader.score_extent(series, start_ns, stop_ns)
    if extent is None:
        return scores_document(series, 0, [], names=[], following=None)
    names = channel if channels else []
    with closing(reader.score_pages(series, max(start_ns, extent.first_ns), stop_ns, detail=channels)) as pages:
        batches, following_ns = _page(pages, limit, names)
    following = None if following_ns is None else iso_utc(following_ns)
    return scores_document(series, extent.slots, batches, names=names, following=following)


def _page(pages: Iterator[ScoreBatch], limit: int, names: Sequence[str] | None) -> tuple[list[ScoreBatch], int | None]:
    """Slots up to the limits, at least one, and the time of the next slot. names: of the channels; None = all."""
    found: list[ScoreBatch] = []
    rows = cells = 0
    for batch in pages:
        width = len(batch.channels if names is None else names)
        fitting = (MAX_CELLS - cells) // width if width else limit
        room = min(limit - rows, max(fitting, 0 if rows else 1))
        if room < len(batch):
            first = [batch.head(room)] if room > 0 else []
            return [*found, *first], int(batch.event_time_ns[max(room, 0)])
        found.append(batch)
        rows, cells = rows + len(batch), cells + len(batch) * width
    return found, None


@router.get("/alerts", tags=["alerts"], response_model=AlertPage)
def alerts(
    principal: Reader,
    state: StateDep,
    series: str | None = None,
    start: Start = None,
    stop: Stop = None,
    severity: Annotated[str | None, Query(pattern="^(warning|critical|silent)$")] = None,
    open: Annotated[bool, Query(description="only alerts without an end")] = False,  # a query parameter
    before: Annotated[str | None, Query(description="`next` of the previous page")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """Alerts that began in a time range, the newest first, each in its newest state."""
    start_ns, stop_ns = range_ns(start, stop)
    found = [
        alert
        for alert in state.store.alerts.alerts(series, start_ns, stop_ns)
        if severity in (None, alert.severity) and not (open and alert.state is AlertState.RESOLVED)
    ]
    place = _place(before) if before else (END_NS, "")
    rest = [alert for alert in sorted(found, key=_order, reverse=True) if _order(alert) < place]
    page = rest[:limit]
    following = "{}-{}".format(*_order(page[-1])) if len(rest) > limit else None
    return {"alerts": [alert_document(alert) for alert in page], "next": following}


def _order(alert: Alert) -> tuple[int, str]:
    return alert.start_ns, alert.id


def _place(text: str) -> tuple[int, str]:
    number, _, alert_id = text.partition("-")
    if not number.isdigit():
        raise ConfigError(f"before: expected `next` of another page, found {text!r}")
    return int(number), alert_id


@router.get("/alerts/stream", tags=["alerts"], response_class=EventSourceResponse)
async def alert_stream(principal: Reader, request: Request, state: StateDep) -> AsyncIterator[ServerSentEvent]:
    """Alert events (`alert`) as they arrive, from now or after Last-Event-ID; `reset`: events may have been lost."""
    async for event in _events(state.feed, request):
        if event.kind != "series":
            yield _sse(event)


@router.get("/stream", tags=["live"], response_class=EventSourceResponse)
async def stream(principal: Reader, request: Request, state: StateDep) -> AsyncIterator[ServerSentEvent]:
    """The events of /alerts/stream, and the series whose state changed (`series`)."""
    async for event in _events(state.feed, request):
        yield _sse(event)


async def _events(feed: Feed, request: Request) -> AsyncIterator[Event]:
    with feed.listen(request.headers.get("last-event-id", "")) as queue:
        yield Event("hello", {})
        while (event := await queue.get()) is not None:
            yield event


def _sse(event: Event) -> ServerSentEvent:
    return ServerSentEvent(data=event.data, event=event.kind, id=event.id or None, retry=3000)


@router.get("/alerts/{alert_id}", tags=["alerts"], response_model=AlertDocument)
def alert(principal: Reader, state: StateDep, alert_id: str) -> Any:
    """One alert."""
    found = state.store.alerts.alert(alert_id)
    if found is None:
        raise HTTPException(404, f"there is no alert {alert_id!r}")
    return alert_document(found)


@router.get("/state", tags=["live"], response_model=State)
def state(principal: Reader, state: StateDep) -> dict[str, Any]:
    """Counts, versions and consumer lag."""
    statuses = state.store.statuses.statuses()
    profiles: dict[str, int] = {}
    for one in statuses:
        profiles[one.profile_version] = profiles.get(one.profile_version, 0) + 1
    lag = state.lag()
    return {
        "version": version("stream-ad"),
        "scorer": state.settings.detector.scorer,
        "store": "the embedded store" if state.settings.influxdb.url is None else "InfluxDB",
        "series": len(statuses),
        "scoring": sum(one.state == "scoring" for one in statuses),
        "open_alerts": sum(one.open_alerts for one in statuses),
        "profiles": profiles,
        "lag": None if lag is None else [{**asdict(one), "lag": one.lag} for one in lag],
    }


class Readings(BaseModel):
    """One observation of a series; time: ISO-8601 or nanoseconds, none = now."""

    series: str = Field(min_length=1)
    time: str | int | None = None
    values: dict[str, float | None] = Field(min_length=1)


@router.post("/topics/{topic}/observations", tags=["publish"], status_code=202)
def publish(
    principal: Writer,
    state: StateDep,
    topic: str,
    observations: Annotated[list[Readings], Field(min_length=1, max_length=10_000)],
) -> dict[str, int]:
    """Publishes observations to a subscribed topic; responds once the broker has acknowledged them."""
    state.publisher.publish(topic, [(one.series, one.values, one.time) for one in observations])
    return {"published": len(observations)}


@router.get("/subscriptions", tags=["subscriptions"])
def subscriptions(principal: Reader, state: StateDep) -> list[dict[str, Any]]:
    """The subscriptions of the config and of run time, with the existing topics of each."""
    with closing(open_subscriptions(state.settings)) as store:
        return list_subscriptions(state.settings, store)


@router.put("/subscriptions/{topic}", tags=["subscriptions"], status_code=204)
def subscribe(principal: Admin, state: StateDep, topic: str, fields: dict[str, Any]) -> None:
    """Subscribes the workers to a topic, or to all that match a pattern, without a restart. Body: keys of
    [[subscription]], `{}` = defaults."""
    with Client(state.settings) as client:
        client.subscribe(topic, **fields)
    state.publisher.refresh()


@router.delete("/subscriptions/{topic}", tags=["subscriptions"], status_code=204)
def unsubscribe(principal: Admin, state: StateDep, topic: str) -> None:
    """Ends a subscription of run time; scores and states stay."""
    with Client(state.settings) as client:
        client.unsubscribe(topic)
    state.publisher.refresh()
