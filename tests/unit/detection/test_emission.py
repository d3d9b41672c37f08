"""Emissions: provisional scores, speculative alerts and their withdrawal, revisions by late data."""

from __future__ import annotations

import pytest

from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.records import AlertState
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


def test_a_silent_series_gets_provisional_scores_that_later_data_revise() -> None:
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


def test_a_speculative_alert_opens_once_across_a_restart() -> None:
    values = 0.05 * signal(200)[:100]  # quiet; the signal's own excursion would follow later
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


def test_the_next_owner_withdraws_a_speculative_alert_that_data_contradict() -> None:
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


def test_late_data_revise_a_score_and_too_late_data_are_dead_letters() -> None:
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
