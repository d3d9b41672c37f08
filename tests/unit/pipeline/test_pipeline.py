"""The pipeline as a function of the log: cuts into polls, shuffles, gaps and late data do not change what it emits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.records import SourcePosition, SourceRecord
from tests.reference import pipeline as naive
from tests.support.fakes import MemoryProfiles
from tests.support.pipeline_runs import (
    SCORER,
    START_NS,
    STEP_NS,
    alerts,
    contents,
    fitted_profiles,
    log_of,
    make_settings,
    record,
    run,
    signal,
)


@pytest.mark.parametrize("fitted", [True, False])
def test_every_row_has_the_score_of_the_naive_pipeline(fitted: bool) -> None:
    values = signal(60)
    store = fitted_profiles() if fitted else MemoryProfiles()
    held = contents(run(log_of(values), [7, 50, 51], make_settings(), store))
    expected = naive.scores(values, SCORER, (store.promoted and store.load("s", "level")) or None, memory=256)
    assert {START_NS + slot * STEP_NS for slot in expected} == {time for _, time in held}
    for slot, raw in expected.items():
        score, revision = held["s", START_NS + slot * STEP_NS]
        assert revision == 0
        threshold = naive.threshold_of(values, slot, SCORER, store)
        assert score == pytest.approx(raw / threshold, rel=1e-6)


@given(cuts=st.lists(st.integers(0, 150), max_size=12), fitted=st.booleans(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_cut_into_polls_gives_the_same_outputs(cuts: list[int], fitted: bool, data: st.DataObject) -> None:
    values = signal(150)
    log = log_of(values)
    late = data.draw(st.lists(st.tuples(st.integers(20, 148), st.integers(0, 60)), max_size=3))
    for at, back in late:
        log.insert(at, record(0, max(0, at - back), {"a": 5.0}))
    log = [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, None, r.value) for i, r in enumerate(log)]

    def store() -> MemoryProfiles:
        return fitted_profiles() if fitted else MemoryProfiles()

    whole, cut = run(log, [], make_settings(), store()), run(log, cuts, make_settings(), store())
    assert contents(cut) == contents(whole)
    assert alerts(cut) == alerts(whole)
    assert sum(len(o.dead_letters) for o in cut) == sum(len(o.dead_letters) for o in whole)


@given(seed=st.integers(0, 1000), lateness=st.integers(0, 5), fitted=st.booleans())
@settings(max_examples=40, deadline=None)
def test_shuffling_within_the_lateness_changes_nothing(seed: int, lateness: int, fitted: bool) -> None:
    values = signal(90, seed)
    rng = np.random.default_rng(seed)
    # a reading may arrive as long as no reading `lateness` slots ahead of it has
    order = np.argsort(np.arange(90) + rng.uniform(0, max(lateness, 1e-9), 90), kind="stable")
    shuffled = [record(i, int(s), {"a": float(values[s, 0]), "b": float(values[s, 1])}) for i, s in enumerate(order)]

    def held(log: Sequence[SourceRecord]) -> tuple[dict[tuple[str, int], tuple[float, int]], object]:
        outs = run(log, [30], make_settings(lateness=lateness), fitted_profiles() if fitted else MemoryProfiles())
        return contents(outs), alerts(outs)

    assert held(shuffled) == held(log_of(values))


def test_regular_data_pass_the_grid_unchanged() -> None:
    values = signal(80)
    outs = run(log_of(values), [], make_settings(), fitted_profiles())
    emitted = np.concatenate([batch.value for out in outs for batch in out.scores])
    assert np.array_equal(emitted, values)


def test_channels_from_separate_records_share_their_slot() -> None:
    values = signal(80)
    single = []
    for slot, row in enumerate(values):
        for channel, value in zip("ab", row, strict=True):
            single.append(record(len(single), slot, {channel: float(value)}))
    one_by_one = contents(run(single, [], make_settings(), fitted_profiles()))
    together = contents(run(log_of(values), [], make_settings(), fitted_profiles()))
    assert one_by_one == together


def test_bad_records_change_no_score() -> None:
    values = signal(100)
    good = log_of(values)
    bad = [
        b"{",
        b"",
        b"[1]",
        b'{"series":"s","time":1,"values":{"a":"x"}}',
        b'{"series":"s","time":9e18,"values":{"a":1}}',
    ]
    mixed: list[SourceRecord] = []
    for i, rec in enumerate(good):
        for body in (rec.value, bad[i % len(bad)]):
            mixed.append(SourceRecord(SourcePosition("t", 0, len(mixed)), rec.timestamp_ns, None, body))
    outs = run(mixed, [33], make_settings(), fitted_profiles())
    assert contents(outs) == contents(run(good, [], make_settings(), fitted_profiles()))
    assert sum(len(o.dead_letters) for o in outs) == len(good)


def test_an_observation_without_any_reading_is_scored_too() -> None:
    log = [record(i, i, {"a": 1.0, "b": 2.0} if i % 7 else {"a": float("nan")}) for i in range(60)]
    held = contents(run(log, [], make_settings(), fitted_profiles()))
    assert len(held) == 60
