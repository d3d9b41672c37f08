"""`status`: the progress of each series, and the consumer lag of the workers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, open_store, settings_of, utc
from stream_ad.errors import StreamAdError

if TYPE_CHECKING:
    from stream_ad.records import SeriesStatus

__all__ = ["command"]


def command(context: typer.Context, as_json: Json = False) -> None:
    """Print the state of every series (missing slots, memory, first and last score, open alerts) and the lag."""
    settings = settings_of(context)
    from stream_ad.wiring import group_lag

    with open_store(settings) as store:
        statuses, counts = store.statuses.statuses(), store.scores.score_counts()
    lag: list[dict[str, Any]] | None = None
    problem: StreamAdError | None = None
    try:
        found = group_lag(settings)
        lag = None if found is None else [{**asdict(one), "lag": one.lag} for one in found]
    except StreamAdError as error:  # print the statuses first: they do not need the broker
        problem = error
    if as_json:
        emit_json({"series": [_document(s, counts) for s in statuses], "lag": lag})
    else:
        _show(statuses, counts, lag)
        limit = settings.detector.max_series
        if len(statuses) >= limit:
            print(f"{len(statuses)} series: a worker accepts {limit} (detector.max_series) and dead-letters new ones")
    if problem is not None:
        raise problem


def _document(status: SeriesStatus, counts: dict[str, int]) -> dict[str, Any]:
    from stream_ad.timestamps import iso_utc

    return {
        **{name: getattr(status, name) for name in status.__dataclass_fields__},
        "first_score": None if status.first_score_ns is None else iso_utc(status.first_score_ns),
        "last_score": None if status.last_score_ns is None else iso_utc(status.last_score_ns),
        "scores": counts.get(status.series, 0),
    }


def _show(statuses: list[SeriesStatus], counts: dict[str, int], lag: list[dict[str, Any]] | None) -> None:
    if statuses:
        columns = ("series", "state", "memory", "scores", "first score", "last score", "open alerts", "detail")
        emit_table(columns, [_cells(status, counts) for status in statuses])
    else:
        print("no series yet: a worker reports the first ones here a few seconds after their first readings")
    if lag is not None:
        names = ("topic", "partition", "committed", "end", "lag")
        emit_table(names, [["-" if one[name] is None else one[name] for name in names] for one in lag])


def _cells(status: SeriesStatus, counts: dict[str, int]) -> list[object]:
    return [
        status.series,
        status.state,
        f"{status.memory_slots}/{status.memory_capacity}",
        counts.get(status.series, 0),
        utc(status.first_score_ns),
        utc(status.last_score_ns),
        status.open_alerts,
        status.detail,
    ]
