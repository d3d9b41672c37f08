"""The status of a series, as people and readers see it."""

from __future__ import annotations

from stream_ad.pipeline.series import Series
from stream_ad.records import SeriesStatus

__all__ = ["status_of"]


def status_of(series: Series) -> SeriesStatus:
    windower, grid, profile, emitter = series.windower, series.windower.grid, series.profile, series.emitter
    closed = grid.closed if grid else 0
    scoring = windower.emitted_from is not None
    missing = 0 if scoring else max(0, (windower.next_fit_slots or 0) - (closed - windower.history_start))
    capacity = profile.capacity if profile else series.config.windowing.memory
    filled = profile.slots if profile else 0
    if not scoring:
        detail = f"first full window in {missing} slots"
    elif windower.next_fit_slots is not None:
        detail = f"memory filled to {filled} of {capacity} slots; grows at {windower.next_fit_slots}"
    else:
        detail = f"profile {profile.version if profile else '-'}"
    return SeriesStatus(
        series=series.key.series,
        state="scoring" if scoring else "filling",
        channels=tuple(series.channels.names),
        step_ns=grid.step_ns if grid else series.config.step_ns,
        slots_seen=closed,
        ready_in_slots=missing,
        memory_slots=filled,
        memory_capacity=capacity,
        profile_version=profile.version if profile else "",
        first_score_ns=emitter.first_emitted_ns,
        last_score_ns=emitter.last_emitted_ns,
        open_alerts=0 if emitter.tracker.open_alert is None else 1,
        detail=detail,
    )
