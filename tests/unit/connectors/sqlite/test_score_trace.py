"""Whatever slots there are and whatever is asked: the embedded store's line against the obvious one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.records import Outputs, ScoreExtent
from tests.reference.history import expect_trace
from tests.support.sink_samples import batch

END_NS = 2**62
TIMES = st.integers(0, 50) | st.integers(0, 10**6) | st.integers(0, END_NS - 1)
SCORES = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1e300) | st.just(math.nan)
SLOTS = st.dictionaries(TIMES, SCORES, min_size=1, max_size=60)
BOUNDS = st.sampled_from([0, END_NS]) | TIMES


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=SLOTS, start_ns=BOUNDS, stop_ns=BOUNDS, max_points=st.integers(2, 70))
def test_the_trace_of_any_slots_equals_the_reference(
    tmp_path: Path, held: dict[int, float], start_ns: int, stop_ns: int, max_points: int
) -> None:
    times = sorted(held)
    written = batch("s", times, ("a",))
    written = replace(written, score=np.array([held[time_ns] for time_ns in times]))
    (tmp_path / "store.db").unlink(missing_ok=True)
    store = SqliteStore(tmp_path / "store.db")
    try:
        store.write(Outputs(scores=[written, batch("other", [1, 2, 3])]))
        inside = [time_ns for time_ns in times if start_ns <= time_ns < stop_ns]
        scored = {time_ns: held[time_ns] for time_ns in inside if not math.isnan(held[time_ns])}
        expect_trace(store.reader.score_trace("s", start_ns, stop_ns, max_points=max_points), scored, max_points)
        extent = ScoreExtent(len(inside), inside[0], inside[-1]) if inside else None
        assert store.reader.score_extent("s", start_ns, stop_ns) == extent
        paged = [int(t) for page in store.reader.score_pages("s", start_ns, stop_ns) for t in page.event_time_ns]
        assert paged == inside
    finally:
        store.close()
