"""The pipeline as a function of the log: cuts, shuffles, gaps, late data and restarts do not change what is told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.pipeline.series_config import SeriesConfig
from stream_ad.ports import Checkpoint, Fitted, Profile, Scorer
from stream_ad.records import AlertState, Outputs, SourcePosition, SourceRecord
from stream_ad.settings import AlertSettings, DetectorSettings, Settings, Subscription
from stream_ad.windowing.slot_buffer import SlotBuffer
from tests.reference import pipeline as naive
from tests.support.fakes import LevelScorer, MemoryProfiles

STEP_NS = 1_000_000_000
START_NS = 1_700_000_000 * STEP_NS
SCORER = LevelScorer()


def make_settings(lateness: int = 1, memory: int = 256, revise: int = 64, stagger: bool = False) -> Settings:
    return Settings(
        subscription=(Subscription(topic="t", step="1s", time_unit="ns"),),
        detector=DetectorSettings(
            allowed_lateness_steps=lateness, memory_steps=memory, revise_steps=revise, stagger=stagger
        ),
        alerts=AlertSettings(cooldown_steps=6),
    )


def fitted_profiles(channels: Sequence[str] = ("a", "b"), series: str = "s") -> MemoryProfiles:
    store = MemoryProfiles()
    fitted = Fitted({"scale": np.ones(len(channels))}, np.abs(np.sin(np.arange(64.0))))
    store.save(
        Profile(series, tuple(channels), STEP_NS, "level", "1", "fit-1", 64, 256, None, fitted),
        promote=True,
    )
    return store


def record(
    offset: int, slot: int, values: dict[str, float | None], series: str = "s", partition: int = 0
) -> SourceRecord:
    time_ns = START_NS + slot * STEP_NS
    body = {"series": series, "time": time_ns, "values": values}
    return SourceRecord(SourcePosition("t", partition, offset), time_ns, None, json.dumps(body).encode())


def signal(n: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2)).astype(np.float32)
    values[n // 2 : n // 2 + 5] += 9
    return values


def log_of(values: NDArray[np.float32], slots: Iterable[int] | None = None, series: str = "s") -> list[SourceRecord]:
    chosen = range(len(values)) if slots is None else slots
    rows = zip(chosen, values, strict=True)
    return [record(i, s, {"a": float(r[0]), "b": float(r[1])}, series) for i, (s, r) in enumerate(rows)]


def contents(outs: Iterable[Outputs]) -> dict[tuple[str, int], tuple[float, int]]:
    """(series, time) -> (score, revision): what a store that keeps the newest revision would hold."""
    held: dict[tuple[str, int], tuple[float, int]] = {}
    for out in outs:
        for batch in out.scores:
            for time_ns, score, revision in zip(batch.event_time_ns, batch.score, batch.revision, strict=True):
                held[batch.series, int(time_ns)] = (float(score), int(revision))
    return held


def alerts(outs: Iterable[Outputs]) -> list[tuple[str, AlertState]]:
    return [(alert.id, alert.state) for out in outs for alert in out.alerts]


def run(log: Sequence[SourceRecord], cuts: Sequence[int], conf: Settings, store: MemoryProfiles) -> list[Outputs]:
    pipeline = Pipeline(conf, SCORER, store)
    bounds = [0, *sorted(cuts), len(log)]
    outs = [pipeline.process(log[a:b]) for a, b in pairwise(bounds)]
    return [*outs, pipeline.flush()]


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


def staggered_lead(series: str) -> int:
    return SeriesConfig.of(make_settings(stagger=True), "t", SCORER).phase_steps(series)


@pytest.mark.parametrize("series", ["s", "boiler", "x9"])
def test_a_staggered_series_is_one_that_began_earlier_and_said_nothing(series: str) -> None:
    values, lead = signal(150), staggered_lead(series)
    staggered = run(log_of(values, series=series), [40], make_settings(stagger=True), fitted_profiles(series=series))
    early = [record(0, 0, {"a": None, "b": None}, series)] if lead else []
    log = early + log_of(values, range(lead, lead + 150), series)
    log = [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, None, r.value) for i, r in enumerate(log)]
    plain = contents(run(log, [40], make_settings(), fitted_profiles(series=series)))
    moved = {(series, time_ns + lead * STEP_NS): told for (_, time_ns), told in contents(staggered).items()}
    assert moved == {key: told for key, told in plain.items() if key[1] >= START_NS + lead * STEP_NS}


@pytest.mark.parametrize("fitted", [True, False])
def test_staggered_series_that_begin_together_are_due_one_after_another(fitted: bool) -> None:
    names = [f"s{number}" for number in range(12)]
    rows = {name: log_of(signal(80, number), series=name) for number, name in enumerate(names)}
    log = [rows[name][slot] for slot in range(80) for name in names]
    log = [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, None, r.value) for i, r in enumerate(log)]

    def told(stagger: bool) -> tuple[list[int], dict[tuple[str, int], tuple[float, int]]]:
        store = MemoryProfiles()
        for name in names if fitted else ():
            store.save(next(iter(fitted_profiles(series=name).saved.values())), promote=True)
        cuts = range(len(names), len(log), len(names))  # a poll a slot
        outs = run(log, list(cuts), make_settings(stagger=stagger), store)
        return [len(out.scores) for out in outs[:-1]], contents(outs)

    together, apart = told(False), told(True)
    assert max(together[0]) == len(names)
    assert max(apart[0]) < len(names)
    slots = 80 if fitted else 80 - SCORER.window_steps - SCORER.hop_steps
    assert all(sum(name == series for series, _ in apart[1]) >= slots for name in names)


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


@given(
    kill=st.integers(1, 200),
    saved=st.integers(0, 200),
    fitted=st.booleans(),
    gap=st.sampled_from([0, 5, 60, 500]),
)
@settings(max_examples=60, deadline=None)
def test_a_restart_tells_what_the_undisturbed_run_tells(kill: int, saved: int, fitted: bool, gap: int) -> None:
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
    outs.append(first.process(log[saved:kill]))  # then it dies: nothing else is kept

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
@example(late=[(90, 27, -3.0, False)], saved=[90], fitted=False)  # told under a profile, moved under the next
@example(late=[(100, 20, 0.0, True)], saved=[100], fitted=True)  # nothing to tell before it came
@settings(max_examples=80, deadline=None)
def test_restarts_amid_late_data_change_nothing(
    late: list[tuple[int, int, float, bool]], saved: list[int], fitted: bool
) -> None:
    """What late data moved is told again by who goes on, though its rows hold them already; what they moved too little
    is not, and neither is what a new profile alone would move. late: where in the log, slots back, the power of ten it
    lies apart, and whether it is the slot's only reading."""
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
def test_another_scorer_goes_on_where_the_last_one_stopped(
    hop: int, delay: int, stop: int, before: bool, after: bool
) -> None:
    """No slot that was to be told is left out, none is told twice; with a profile of its own the scores are its own."""
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
    told = [int(t - START_NS) // STEP_NS for out in outs for batch in out.scores for t in batch.event_time_ns]
    untold = 0 if before and (after or told[0] == 0) else None
    assert len(told) == len(set(told))
    assert sorted(told) == list(range(min(told) if untold is None else untold, 200))
    assert min(told) <= 2 * SCORER.window_steps
    if after:
        pure = Pipeline(conf, scorer, store)
        wanted, held = contents([pure.process(log), pure.flush()]), contents(outs)
        new = [key for key in held if key[1] >= START_NS + (stop + 8) * STEP_NS]
        assert {k: held[k][0] for k in new} == pytest.approx({k: wanted[k][0] for k in new}, rel=1e-9)


def test_a_restart_reads_back_no_more_than_the_windows_need() -> None:
    log = log_of(signal(3000))
    pipeline = Pipeline(make_settings(), SCORER, fitted_profiles())
    pipeline.process(log)
    made = pipeline.checkpoint("t", 0)
    assert made is not None
    assert made[1].next_offset == 3000
    assert 3000 - made[1].replay_offset < SCORER.lookback_steps + 64 + 64 + 20


def test_a_series_left_behind_does_not_hold_its_partition_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad.pipeline.pipeline.MAX_REPLAY_RECORDS", 500)
    values = signal(100)
    old = log_of(values, series="old")
    other = [record(100 + i, i, {"a": float(np.sin(i)), "b": 1.0}, "other") for i in range(2000)]
    more = [record(2100 + i, 100 + i, {"a": float(np.cos(i)), "b": 2.0}, "old") for i in range(60)]
    conf, store = make_settings(), fitted_profiles(series="old")
    undisturbed = [Pipeline(conf, SCORER, store)]
    expected = contents([undisturbed[0].process([*old, *other, *more]), undisturbed[0].flush()])

    first = Pipeline(conf, SCORER, store)
    outs = [first.process([*old, *other])]
    made = first.checkpoint("t", 0)
    assert made is not None
    assert made[1].replay_offset > 1500
    second = Pipeline(conf, SCORER, store)
    begin = second.assign("t", 0, *made)
    log = [*old, *other, *more]
    outs += [second.process(log[begin:]), second.flush()]
    assert contents(outs) == expected


def test_silence_tells_what_waits_and_later_data_revise_it() -> None:
    values = signal(100)
    log, conf = log_of(values), make_settings()
    pipeline = Pipeline(conf, SCORER, fitted_profiles())
    early = [pipeline.process(log[:70]), pipeline.flush()]
    assert len(contents(early)) == 70
    assert pipeline.flush().scores == []
    late = [pipeline.process(log[70:]), pipeline.flush()]
    undisturbed = contents(run(log, [], conf, fitted_profiles()))
    held = contents([*early, *late])
    assert {k: v[0] for k, v in held.items()} == pytest.approx({k: v[0] for k, v in undisturbed.items()})
    assert max(v[1] for v in held.values()) == 1


def test_an_alert_opened_early_is_told_once_over_a_restart() -> None:
    values = 0.05 * signal(200)[:100]  # quiet; its own excursion would come later
    values[64:70] += 30
    log, conf, store = log_of(values), make_settings(), fitted_profiles()
    first = Pipeline(conf, SCORER, store)
    outs = [first.process(log[:66]), first.flush()]
    [early] = outs[1].alerts
    assert early.state is AlertState.OPEN
    made = first.checkpoint("t", 0)
    assert made is not None
    second = Pipeline(conf, SCORER, store)
    begin = second.assign("t", 0, *made) or 0
    outs += [second.process(log[begin:]), second.flush()]
    states = [state for out in outs for alert_id, state in alerts([out]) if alert_id == early.id]
    assert states.count(AlertState.OPEN) == 1
    assert AlertState.WITHDRAWN not in states
    assert len({alert_id for alert_id, _ in alerts(outs)}) == 1


def test_an_early_alert_that_does_not_come_true_is_withdrawn_by_whoever_goes_on() -> None:
    values = 0.05 * signal(200)[:100]
    values[65] += 30  # the last reading before the silence; the next one of this slot corrects it
    conf, store = make_settings(lateness=2), fitted_profiles()
    log = log_of(values[:66])
    first = Pipeline(conf, SCORER, store)
    outs = [first.process(log), first.flush()]
    [early] = outs[1].alerts
    made = first.checkpoint("t", 0)
    assert made is not None
    log += [record(66 + i, 65 + i, {"a": 0.0, "b": 0.0}) for i in range(40)]
    second = Pipeline(conf, SCORER, store)
    begin = second.assign("t", 0, *made) or 0
    outs += [second.process(log[begin:]), second.flush()]
    assert alerts(outs[2:]) == [(early.id, AlertState.WITHDRAWN)]


def test_late_data_are_told_as_a_revision_and_too_late_data_are_dead_letters() -> None:
    values = signal(200)
    log = log_of(values)
    late = record(150, 120, {"a": 40.0})
    outs = run(
        [*log[:150], late, *(record(151 + i, 150 + i, {"a": 0.5}) for i in range(50))],
        [],
        make_settings(),
        fitted_profiles(),
    )
    held = contents(outs)
    assert held["s", START_NS + 120 * STEP_NS][1] == 1
    assert held["s", START_NS + 60 * STEP_NS][1] == 0
    assert held["s", START_NS + 120 * STEP_NS][0] > 10
    too_late = run([*log[:150], record(150, 20, {"a": 40.0})], [], make_settings(), fitted_profiles())
    assert [d.reason for o in too_late for d in o.dead_letters] == ["late"]


def test_regular_data_pass_the_grid_unchanged() -> None:
    values = signal(80)
    outs = run(log_of(values), [], make_settings(), fitted_profiles())
    told = np.concatenate([batch.value for out in outs for batch in out.scores])
    assert np.array_equal(told, values)


def test_sensors_that_report_one_by_one_meet_in_their_slot() -> None:
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


def test_unknown_channels_are_dead_letters_and_the_known_ones_are_scored() -> None:
    log = [record(i, i, {"a": 1.0, "b": 2.0, "new": 3.0}) for i in range(40)]
    outs = run(log, [], make_settings(), fitted_profiles())
    assert len(contents(outs)) == 40
    assert {d.reason for o in outs for d in o.dead_letters} == {"unknown_channel"}


def test_a_series_takes_no_more_channels_than_allowed() -> None:
    conf = make_settings()
    conf = conf.model_copy(update={"detector": conf.detector.model_copy(update={"max_channels": 3})})
    log = [record(i, i, {"a": 1.0, f"c{i}": 2.0}) for i in range(40)]
    outs = run(log, [], conf, MemoryProfiles())
    assert {d.reason for o in outs for d in o.dead_letters} == {"unknown_channel"}
    assert {b.channels for o in outs for b in o.scores} == {("a", "c0", "c1")}


def test_an_unfitted_series_says_how_far_it_is() -> None:
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


def test_a_stream_that_cannot_be_read_again_goes_on_with_the_profile_it_filled() -> None:
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


def test_a_far_jump_costs_no_memory_and_loses_no_score() -> None:
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
@example(extra=-44, lateness=0, late=[(101, 24)])  # late data in the gap, which look at what was before it
@settings(max_examples=60, deadline=None)
def test_a_gap_that_is_leapt_over_tells_what_one_that_is_walked_tells(
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
    leapt = run(log, [], conf, fitted_profiles())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream_ad.windowing.windower.Windower.exceeds_gap", lambda self, apart: False)
        walked = run(log, [], conf, fitted_profiles())
    held, wanted = contents(leapt), contents(walked)
    assert {k: v[1] for k, v in held.items()} == {k: v[1] for k, v in wanted.items()}
    assert {k: v[0] for k, v in held.items()} == pytest.approx({k: v[0] for k, v in wanted.items()}, rel=1e-6)
    assert alerts(leapt) == alerts(walked)


@pytest.mark.parametrize("fitted", [True, False])
def test_a_reading_of_long_ago_at_the_start_costs_no_more_than_another(
    monkeypatch: pytest.MonkeyPatch, fitted: bool
) -> None:
    copied = 0

    def window(rows: SlotBuffer, start: int, stop: int) -> NDArray[np.float32]:
        nonlocal copied
        copied += 1
        assert copied < 1000, "walks through the empty slots"
        return original(rows, start, stop)

    original = SlotBuffer.window
    monkeypatch.setattr(SlotBuffer, "window", window)
    slots = [1_000_000_000, 0, *range(1_000_000_001, 1_000_000_100)]
    outs = run(log_of(signal(101), slots), [], make_settings(), fitted_profiles() if fitted else MemoryProfiles())
    assert len(contents(outs)) == (101 if fitted else 100 - SCORER.window_steps)
    assert [letter for out in outs for letter in out.dead_letters] == []


def test_checkpoint_of_an_idle_partition_is_nothing() -> None:
    pipeline = Pipeline(make_settings(), SCORER, fitted_profiles())
    assert pipeline.checkpoint("t", 0) is None
    pipeline.process(log_of(signal(20)))
    assert pipeline.checkpoint("t", 0) is not None
    assert pipeline.checkpoint("t", 0) is None
    assert isinstance(SCORER, Scorer)
    assert Checkpoint(1, 0) != Checkpoint(1, 1)


def test_an_observation_without_any_reading_is_told_too() -> None:
    log = [record(i, i, {"a": 1.0, "b": 2.0} if i % 7 else {"a": float("nan")}) for i in range(60)]
    held = contents(run(log, [], make_settings(), fitted_profiles()))
    assert len(held) == 60


@given(seed=st.integers(0, 1000), size=st.integers(1, 70), fitted=st.booleans(), disorder=st.booleans())
@settings(max_examples=30, deadline=None)
def test_columns_tell_what_single_observations_tell(seed: int, size: int, fitted: bool, disorder: bool) -> None:
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
    late = [[letter.reason for out in outs for letter in out.dead_letters] for outs in (one_by_one, together)]
    assert late[0] == late[1]
