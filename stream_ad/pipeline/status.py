"""How far a series is, in the words that who watches is given."""

from __future__ import annotations

from stream_ad.pipeline.series import Series
from stream_ad.records import SeriesStatus

__all__ = ["status_of"]


def status_of(series: Series) -> SeriesStatus:
    windower, grid = series.windower, series.windower.grid
    closed = grid.closed if grid else 0
    scoring = windower.emitted_from is not None
    waits = 0 if scoring else max(0, (windower.next_fit_slots or 0) - (closed - windower.history_start))
    capacity = series.profile.capacity if series.profile else series.config.windowing.memory
    memory = series.profile.slots if series.profile else 0
    if not scoring:
        detail = f"first full window in {waits} slots"
    elif windower.next_fit_slots is not None:
        detail = f"memory filled to {memory} of {capacity} slots; grows at {windower.next_fit_slots}"
    else:
        detail = f"profile {series.profile.version if series.profile else '-'}"
    return SeriesStatus(
        series=series.key.series,
        state="scoring" if scoring else "filling",
        channels=tuple(series.channels.names),
        step_ns=grid.step_ns if grid else series.config.step_ns,
        slots_seen=closed,
        ready_in_slots=waits,
        memory_slots=memory,
        memory_capacity=capacity,
        profile_version=series.profile.version if series.profile else "",
        first_score_ns=series.emitter.first_emitted_ns,
        last_score_ns=series.emitter.last_emitted_ns,
        open_alerts=0 if series.emitter.tracker.open_alert is None else 1,
        detail=detail,
    )
