"""Blocks of many rows give what single observations give."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.records import SourcePosition, SourceRecord
from tests.support.fakes import MemoryProfiles
from tests.support.pipeline_runs import (
    START_NS,
    STEP_NS,
    alerts,
    contents,
    fitted_profiles,
    make_settings,
    record,
    run,
    signal,
)


@given(seed=st.integers(0, 1000), size=st.integers(1, 70), fitted=st.booleans(), disorder=st.booleans())
@settings(max_examples=30, deadline=None)
def test_columns_emit_what_single_observations_emit(seed: int, size: int, fitted: bool, disorder: bool) -> None:
    rng = np.random.default_rng(seed)
    values = signal(150, seed).astype(np.float64)
    values[rng.random(values.shape) < 0.1] = np.nan
    slots = np.arange(150) + np.where(np.arange(150) > 90, rng.integers(0, 300), 0)
    slots = slots[rng.random(150) < 0.95]
    if disorder:
        slots[rng.integers(0, len(slots), 5)] -= rng.integers(0, 90, 5)
    rows = [(int(slot), {"a": row[0], "b": row[1]}) for slot, row in zip(slots, values, strict=False)]
    single = [record(i, slot, dict(given)) for i, (slot, given) in enumerate(rows)]
    columns = []
    for offset, first in enumerate(range(0, len(rows), size)):
        part = rows[first : first + size]
        body = {
            "series": "s",
            "times": [START_NS + slot * STEP_NS for slot, _ in part],
            "values": {name: [None if np.isnan(v[name]) else v[name] for _, v in part] for name in "ab"},
        }
        newest = START_NS + max(slot for slot, _ in rows) * STEP_NS
        columns.append(SourceRecord(SourcePosition("t", 0, offset), newest, None, json.dumps(body).encode()))

    def store() -> MemoryProfiles:
        return fitted_profiles() if fitted else MemoryProfiles()

    one_by_one = run(single, range(1, len(single)), make_settings(), store())
    together = run(columns, [], make_settings(), store())
    assert contents(together) == contents(one_by_one)
    assert alerts(together) == alerts(one_by_one)
    late = [[dead.reason for out in outs for dead in out.dead_letters] for outs in (one_by_one, together)]
    assert late[0] == late[1]
