"""Restarts: a pipeline restored from snapshots and a replay emits what an undisturbed one emits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Checkpoint
from stream_ad.records import SourcePosition, SourceRecord
from tests.support.fakes import LevelScorer, MemoryProfiles
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


@given(
    kill=st.integers(1, 200),
    saved=st.integers(0, 200),
    fitted=st.booleans(),
    gap=st.sampled_from([0, 5, 60, 500]),
)
@settings(max_examples=60, deadline=None)
def test_a_restart_emits_what_the_undisturbed_run_emits(kill: int, saved: int, fitted: bool, gap: int) -> None:
    values = signal(200)
    slots = [s + (gap if s >= 120 else 0) for s in range(200)]
    log = log_of(values, slots)
    saved = min(saved, kill)
    conf = make_settings(memory=64)

    def store() -> MemoryProfiles:
        return fitted_profiles() if fitted else MemoryProfiles()

    undisturbed = run(log, [], conf, store())
    profiles = store()
    first = Pipeline(conf, SCORER, profiles)
    outs = [first.process(log[:saved])]
    made = first.checkpoint("t", 0) if saved else None
    outs.append(first.process(log[saved:kill]))  # then it crashes: nothing else is durable

    second = Pipeline(conf, SCORER, profiles)
    states, checkpoint = made if made is not None else ({}, None)
    begin = second.assign("t", 0, states, checkpoint) or 0
    outs += [second.process(log[i : i + 40]) for i in range(begin, len(log), 40)]
    outs.append(second.flush())
    held, wanted = contents(outs), contents(undisturbed)
    assert held.keys() == wanted.keys()
    assert {k: v[0] for k, v in held.items()} == pytest.approx({k: v[0] for k, v in wanted.items()}, rel=1e-9)
    assert set(alerts(outs)) == set(alerts(undisturbed))


@given(
    late=st.lists(
        st.tuples(st.integers(80, 180), st.integers(1, 60), st.floats(-7, 1), st.booleans()),
        min_size=1,
        max_size=12,
        unique_by=lambda each: each[0],
    ),
    saved=st.lists(st.integers(90, 199), min_size=1, max_size=4),
    fitted=st.booleans(),
)
@example(late=[(90, 27, -3.0, False)], saved=[90], fitted=False)  # emitted under one profile, moved under the next
@example(late=[(100, 20, 0.0, True)], saved=[100], fitted=True)  # nothing to emit before it arrived
@settings(max_examples=80, deadline=None)
def test_restarts_amid_late_data_change_nothing(
    late: list[tuple[int, int, float, bool]], saved: list[int], fitted: bool
) -> None:
    """The next owner emits the scores that late data moved, though the replayed rows already hold these data; not the
    scores that moved too little, nor those that only a new profile would move. late: position in the log, slots back,
    power of ten of the change, and whether it is the slot's only reading."""
    values = 0.3 * signal(200)
    sent: list[SourceRecord | None] = [*log_of(values)]
    for at, back, _, alone in late:
        sent[at - back] = None if alone else sent[at - back]
    for at, back, power, _ in sorted(late, reverse=True):
        sent.insert(at, record(0, at - back, {"a": float(values[at - back, 0]) + 10.0**power}))
    left = [one for one in sent if one is not None]
    log = [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, None, r.value) for i, r in enumerate(left)]

    def store() -> MemoryProfiles:
        return fitted_profiles() if fitted else MemoryProfiles()

    conf, profiles, outs = make_settings(), store(), []
    made: tuple[dict[str, bytes], Checkpoint | None] = {}, None
    for stop in (*sorted(saved), len(log)):
        pipeline = Pipeline(conf, SCORER, profiles)
        begin = pipeline.assign("t", 0, *made) or 0
        outs.append(pipeline.process(log[begin:stop]))
        if (kept := pipeline.checkpoint("t", 0)) is not None:
            made = made[0] | kept[0], kept[1]
    outs.append(pipeline.flush())
    held, wanted = contents(outs), contents(run(log, [], conf, store()))
    assert {k: v[1] for k, v in held.items()} == {k: v[1] for k, v in wanted.items()}
    assert {k: v[0] for k, v in held.items()} == pytest.approx({k: v[0] for k, v in wanted.items()}, rel=1e-4)


@pytest.mark.parametrize(("hop", "delay"), [(8, 8), (2, 0), (4, 3)])
@pytest.mark.parametrize("stop", [20, 60, 131])
@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True), (False, False)])
def test_another_scorer_continues_where_the_last_one_stopped(
    hop: int, delay: int, stop: int, before: bool, after: bool
) -> None:
    """Every slot is emitted exactly once; with a profile of the new scorer, with that scorer's own scores."""
    log, conf = log_of(signal(200)), make_settings()
    scorer = LevelScorer(version="2", hop_steps=hop, delay_steps=delay)
    store = fitted_profiles() if before else MemoryProfiles()
    first = Pipeline(conf, SCORER, store)
    outs = [first.process(log[:stop])]
    made = first.checkpoint("t", 0)
    if after:
        own = fitted_profiles().load("s", "level")
        assert own is not None
        store.save(replace(own, scorer_version="2", version="fit-2"), promote=True)
    second = Pipeline(conf, scorer, store)
    begin = second.assign("t", 0, *made) if made else 0
    outs += [second.process(log[begin or 0 :]), second.flush()]
    emitted = [int(t - START_NS) // STEP_NS for out in outs for batch in out.scores for t in batch.event_time_ns]
    first = 0 if before and (after or emitted[0] == 0) else min(emitted)
    assert len(emitted) == len(set(emitted))
    assert sorted(emitted) == list(range(first, 200))
    assert min(emitted) <= 2 * SCORER.window_steps
    if after:
        pure = Pipeline(conf, scorer, store)
        wanted, held = contents([pure.process(log), pure.flush()]), contents(outs)
        new = [key for key in held if key[1] >= START_NS + (stop + 8) * STEP_NS]
        assert {k: held[k][0] for k in new} == pytest.approx({k: wanted[k][0] for k in new}, rel=1e-9)


def test_a_stream_without_replay_continues_with_the_profile_it_filled() -> None:
    store, log = MemoryProfiles(), log_of(signal(80))
    first = Pipeline(make_settings(memory=128), SCORER, store)
    first.process(log[:40])
    first.save_profiles(promote=True)
    second = Pipeline(make_settings(memory=128), SCORER, store)
    second.process(log[40:45])
    [status] = second.statuses()
    assert (status.state, status.memory_slots) == ("scoring", 32)
    second.process([record(i, i, {"a": 1.0, "b": float(i % 3)}) for i in range(45, 160)])
    [status] = second.statuses()
    assert status.memory_slots == 64
