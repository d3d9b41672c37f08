"""How far a series is, in the words that who watches is given."""

from __future__ import annotations

from stream_ad.pipeline.series import Series
from stream_ad.records import SeriesStatus

__all__ = ["status_of"]


def status_of(series: Series) -> SeriesStatus:
    due, grid = series.windowing, series.windowing.grid
    closed = grid.closed if grid else 0
    scoring = due.told_from is not None
    waits = 0 if scoring else max(0, (due.next_fit or 0) - (closed - due.origin))
    capacity = series.profile.capacity if series.profile else series.rules.windowing.memory
    memory = series.profile.slots if series.profile else 0
    if not scoring:
        detail = f"first full window in {waits} slots"
    elif due.next_fit is not None:
        detail = f"memory filled to {memory} of {capacity} slots; grows at {due.next_fit}"
    else:
        detail = f"profile {series.profile.version if series.profile else '-'}"
    return SeriesStatus(
        series=series.key.series,
        state="scoring" if scoring else "filling",
        channels=tuple(series.channels.names),
        step_ns=grid.step_ns if grid else series.rules.step_ns,
        slots_seen=closed,
        ready_in_slots=waits,
        memory_slots=memory,
        memory_capacity=capacity,
        profile_version=series.profile.version if series.profile else "",
        first_score_ns=series.teller.first_told_ns,
        last_score_ns=series.teller.last_told_ns,
        open_alerts=0 if series.teller.tracker.open_alert is None else 1,
        detail=detail,
    )
