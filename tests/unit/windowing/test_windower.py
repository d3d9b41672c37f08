"""Gaps: skipping empty slots changes no score and costs nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.windowing.slot_buffer import SlotBuffer
from tests.support.fakes import MemoryProfiles
from tests.support.pipeline_runs import (
    SCORER,
    alerts,
    contents,
    fitted_profiles,
    log_of,
    make_settings,
    record,
    run,
    signal,
)


def test_a_huge_gap_costs_no_memory_and_loses_no_score() -> None:
    values = signal(120)
    slots = [s if s < 60 else s + 40_000_000 for s in range(120)]
    outs = run(log_of(values, slots), [], make_settings(), fitted_profiles())
    held = contents(outs)
    assert len(held) == 120
    assert len(contents(run(log_of(values, slots), [], make_settings(), MemoryProfiles()))) == 120 - SCORER.window_steps


@given(
    extra=st.integers(-60, 40),
    lateness=st.sampled_from([0, 1, 30, 200]),
    late=st.lists(st.tuples(st.integers(90, 199), st.integers(1, 80)), max_size=3, unique_by=lambda pair: pair[0]),
)
@example(extra=-44, lateness=0, late=[(101, 24)])  # late data in the gap, whose look-back reaches before it
@settings(max_examples=60, deadline=None)
def test_skipping_a_gap_emits_what_walking_through_it_emits(
    extra: int, lateness: int, late: list[tuple[int, int]]
) -> None:
    conf = make_settings(lateness, revise=40)
    gap = SCORER.lookback_steps + conf.detector.revise_steps + 2 * lateness
    gap += SCORER.delay_steps + 4 * SCORER.hop_steps + extra
    slots = [s if s < 100 else s + gap for s in range(300)]
    log = log_of(signal(300), slots)
    for at, back in sorted(late, reverse=True):
        log.insert(at, record(0, slots[at] - back, {"a": 8.0}))
    log = [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, None, r.value) for i, r in enumerate(log)]
    skipped = run(log, [], conf, fitted_profiles())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream_ad.windowing.windower.Windower.exceeds_gap", lambda self, apart: False)
        walked = run(log, [], conf, fitted_profiles())
    held, wanted = contents(skipped), contents(walked)
    assert {k: v[1] for k, v in held.items()} == {k: v[1] for k, v in wanted.items()}
    assert {k: v[0] for k, v in held.items()} == pytest.approx({k: v[0] for k, v in wanted.items()}, rel=1e-6)
    assert alerts(skipped) == alerts(walked)


@pytest.mark.parametrize("fitted", [True, False])
def test_a_very_old_first_reading_costs_no_more_than_another(monkeypatch: pytest.MonkeyPatch, fitted: bool) -> None:
    copied = 0

    def window(rows: SlotBuffer, start: int, stop: int) -> NDArray[np.float32]:
        nonlocal copied
        copied += 1
        assert copied < 1000, "it walks through the empty slots"
        return original(rows, start, stop)

    original = SlotBuffer.window
    monkeypatch.setattr(SlotBuffer, "window", window)
    slots = [1_000_000_000, 0, *range(1_000_000_001, 1_000_000_100)]
    outs = run(log_of(signal(101), slots), [], make_settings(), fitted_profiles() if fitted else MemoryProfiles())
    assert len(contents(outs)) == (101 if fitted else 100 - SCORER.window_steps)
    assert not any(out.dead_letters for out in outs)
