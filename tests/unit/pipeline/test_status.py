"""The status of a series on its way to its first score."""

from __future__ import annotations

from stream_ad.pipeline.pipeline import Pipeline
from tests.support.fakes import MemoryProfiles
from tests.support.pipeline_runs import (
    SCORER,
    START_NS,
    STEP_NS,
    log_of,
    make_settings,
    signal,
)


def test_the_status_of_an_unfitted_series_counts_the_missing_slots() -> None:
    log = log_of(signal(100))
    pipeline = Pipeline(make_settings(memory=64), SCORER, MemoryProfiles())
    pipeline.process(log[:11])
    [status] = pipeline.statuses()
    assert (status.state, status.ready_in_slots) == ("filling", 6)
    out = pipeline.process(log[11:])
    [status] = pipeline.statuses()
    assert (status.state, status.memory_slots, status.memory_capacity) == ("scoring", 64, 64)
    first = min(int(batch.event_time_ns[0]) for batch in out.scores)
    assert first == status.first_score_ns == START_NS + SCORER.window_steps * STEP_NS
