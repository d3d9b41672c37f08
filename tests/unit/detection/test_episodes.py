"""Episodes: the state machine against the whole-array reference, and the contents of alerts."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.detection.episodes import EpisodeRule, EpisodeTracker, alert_id
from stream_ad.errors import ConfigError, DataError
from stream_ad.records import Alert, AlertState, ScoreBatch
from tests.reference import scores as naive

STEP_NS = 1_000_000_000
CHANNELS = tuple(f"c{i}" for i in range(7))


def batch_of(scores: list[float], times: list[int] | None = None, start: int = 0) -> ScoreBatch:
    """Channel values follow the slot's time, so that a peak's channels can be distinguished from another's."""
    at = np.array([(start + i) * STEP_NS for i in range(len(scores))] if times is None else times, dtype=np.int64)
    values = (at[:, None] / STEP_NS + np.arange(7)).astype(np.float32)
    shares = np.tile(np.array([0.1, 0.3, 0.0, 0.1, 0.3, 0.15, 0.05], dtype=np.float32), (len(at), 1))
    value = values.copy()
    value[:, 4] = np.nan
    return ScoreBatch(
        series="m1",
        channels=CHANNELS,
        event_time_ns=at,
        score=np.array(scores, dtype=np.float64),
        value=value,
        expected=values,
        lower=values - 1,
        upper=values + 1,
        attribution=shares,
        revision=np.zeros(len(at), dtype=np.int32),
        alert_id=("",) * len(at),
        model_version="v1",
    )


def rule_of(min_length: int = 1, cooldown: int = 2) -> EpisodeRule:
    return EpisodeRule(1.0, 0.8, min_length, cooldown)


def run(scores: list[float], rule: EpisodeRule) -> tuple[list[Alert], list[str]]:
    return EpisodeTracker("m1", rule, STEP_NS).advance(batch_of(scores))


def test_one_episode() -> None:
    events, ids = run([0.1, 0.5, 0.9, 1.2, 1.1, 0.1, 0.9, 0.1, 0.1, 0.1], rule_of())
    opened, resolved = events
    name = alert_id("m1", "threshold", 3 * STEP_NS)
    assert ids == ["", "", "", name, name, "", name, "", "", ""]
    assert (opened.state, opened.id, opened.end_ns) == (AlertState.OPEN, name, None)
    assert opened.likely_start_ns == 1 * STEP_NS  # 0.5 -> 0.9 -> 1.2 rises from over half of exit
    assert resolved.state is AlertState.RESOLVED
    assert (resolved.end_ns, resolved.updated_ns) == (6 * STEP_NS, 8 * STEP_NS)
    assert (resolved.peak_score, resolved.peak_ns) == (1.2, 3 * STEP_NS)


def test_channels_are_those_of_the_peak() -> None:
    events, _ = run([1.1, 1.5, 1.2], rule_of())
    assert len(events) == 1  # 1.5 is not worth an update
    tracker = EpisodeTracker("m1", rule_of(), STEP_NS)
    tracker.advance(batch_of([1.1, 1.5, 1.2]))
    alert = tracker.open_alert
    assert alert is not None
    assert [c.channel for c in alert.channels] == ["c1", "c4", "c5", "c0", "c3"]
    assert alert.channels[0].actual == 2.0  # slot 1, channel 1
    assert alert.channels[1].actual is None
    assert alert.channels[1].expected == 5.0


def test_updates_report_severity_and_doubling_only() -> None:
    events, _ = run([1.1, 1.3, 2.0, 2.5, 3.9, 4.0, 7.9, 9.0], rule_of())
    assert [(e.state.value, e.peak_score) for e in events] == [
        ("open", 1.1),
        ("update", 2.0),
        ("update", 4.0),
        ("update", 9.0),
    ]


def test_a_run_too_short_is_no_episode() -> None:
    assert run([1.2, 1.2, 0.1, 1.2, 1.2, 0.1], rule_of(min_length=3)) == ([], [""] * 6)
    events, ids = run([1.2, 0.9, 1.2, 1.2], rule_of(min_length=3))
    assert [e.detected_ns for e in events] == [3 * STEP_NS]
    assert events[0].start_ns == 0
    assert [bool(i) for i in ids] == [False, False, False, True]


def test_flapping_within_the_cooldown_is_one_alert() -> None:
    events, _ = run([1.5, 0.1, 0.1, 1.5, 0.1, 0.1, 1.5] + [0.0] * 5, rule_of(cooldown=3))
    assert [e.state.value for e in events] == ["open", "resolved"]
    assert events[1].end_ns == 6 * STEP_NS


def test_a_gap_resolves_first() -> None:
    tracker = EpisodeTracker("m1", rule_of(), STEP_NS)
    tracker.advance(batch_of([1.5]))
    assert [e.state for e in tracker.advance(batch_of([1.5], start=2))[0]] == []
    events, _ = tracker.advance(batch_of([1.5], start=5))
    assert [(e.state.value, e.start_ns, e.end_ns) for e in events] == [
        ("resolved", 0, 2 * STEP_NS),
        ("open", 5 * STEP_NS, None),
    ]


def test_a_score_that_is_not_a_number_is_quiet() -> None:
    events, ids = run([1.5, float("nan"), 0.1, 1.5], rule_of())
    assert [e.state.value for e in events] == ["open", "resolved", "open"]
    assert ids[1] == ""


def test_slots_must_rise() -> None:
    tracker = EpisodeTracker("m1", rule_of(), STEP_NS)
    tracker.advance(batch_of([0.1, 0.1]))
    with pytest.raises(DataError, match="expected a slot after"):
        tracker.advance(batch_of([0.1]))


@pytest.mark.parametrize("wrong", [(1.0, 1.1, 1, 1), (1.0, 0.0, 1, 1), (1.0, 0.8, 0, 1), (1.0, 0.8, 1, -1)])
def test_invalid_rules_are_refused(wrong: tuple[float, float, int, int]) -> None:
    with pytest.raises(ConfigError):
        EpisodeRule(*wrong)


@pytest.mark.parametrize("state", [{}, {"last_ns": None, "last_score": 0, "rise_ns": 0, "episode": {"peak": 1}}])
def test_a_foreign_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        EpisodeTracker("m1", rule_of(), STEP_NS).restore(state)


def test_ids_differ_by_series_rule_and_start() -> None:
    ids = {alert_id(s, r, t) for s in ("a", "b") for r in ("x", "y") for t in (0, 1)}
    assert len(ids) == 8
    assert all(len(i) == 24 for i in ids)
    assert alert_id("m1", "threshold", 0) == "47d1edc89a30068bcdc4c4d5"  # must never change: stores hold it


SCORES = st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 3.0, 5.0]), max_size=40)


@settings(deadline=None, max_examples=200)
@given(SCORES, st.integers(1, 3), st.integers(0, 3), st.data())
def test_any_cut_and_any_restart_gives_the_same(
    scores: list[float], min_length: int, cooldown: int, data: st.DataObject
) -> None:
    rule = rule_of(min_length, cooldown)
    skips = data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 5]), min_size=len(scores), max_size=len(scores)))
    times = (np.cumsum(skips) * STEP_NS).tolist() if scores else []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=5)))
    expected, marked = naive.episodes(times, scores, rule, STEP_NS)

    tracker, events, ids = EpisodeTracker("m1", rule, STEP_NS), [], []
    for a, b in zip([0, *cuts], [*cuts, len(scores)], strict=True):
        saved = json.dumps(tracker.state())
        assert len(saved) < 4096
        copy.deepcopy(tracker).advance(batch_of(scores[a:b], times[a:b]))  # a provisional copy changes nothing
        before = tracker.open_alert
        tracker = EpisodeTracker("m1", rule, STEP_NS)
        tracker.restore(json.loads(saved))
        assert tracker.open_alert == before
        new_events, marks = tracker.advance(batch_of(scores[a:b], times[a:b]))
        events += new_events
        ids += marks

    assert (events, ids) == EpisodeTracker("m1", rule, STEP_NS).advance(batch_of(scores, times))
    fields = naive.Event.__dataclass_fields__
    assert [naive.Event(**{f: getattr(e, f) for f in fields}) for e in events] == expected
    assert [bool(i) for i in ids] == marked
    assert [e.channels[0].actual for e in events] == [e.peak_ns / STEP_NS + 1 for e in events]
