"""Many series: what a flood of new series, or of readings without news, may cost."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import numpy as np
import pytest

from stream_ad.pipeline.batch_scorer import BatchScorer
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.pipeline.series import Series
from stream_ad.records import DeadLetter, Outputs, SourcePosition, SourceRecord
from stream_ad.settings import Settings, Subscription
from tests.support.fakes import MemoryProfiles
from tests.support.pipeline_runs import SCORER, contents, fitted_profiles, log_of, make_settings, record, signal


def limited(limit: int) -> Settings:
    settings = make_settings()
    return settings.model_copy(update={"detector": settings.detector.model_copy(update={"max_series": limit})})


def reasons(outputs: Outputs) -> list[str]:
    return [dead.reason for dead in outputs.dead_letters]


def renumbered(log: list[SourceRecord]) -> list[SourceRecord]:
    return [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, r.key, r.value) for i, r in enumerate(log)]


def test_new_series_beyond_the_limit_are_refused_and_known_ones_scored(caplog: pytest.LogCaptureFixture) -> None:
    good = log_of(signal(60))
    flood = [record(0, i % 60, {"a": 1.0}, f"attack-{i}") for i in range(300)]
    log = renumbered([one for i, rec in enumerate(good) for one in (rec, *flood[5 * i : 5 * i + 5])])
    pipeline = Pipeline(limited(20), SCORER, fitted_profiles())
    with caplog.at_level(logging.WARNING):
        outs = [pipeline.process(log), pipeline.flush()]
    alone = Pipeline(limited(20), SCORER, fitted_profiles())
    assert {k: v for k, v in contents(outs).items() if k[0] == "s"} == contents([alone.process(good), alone.flush()])
    dead_letters: list[DeadLetter] = outs[0].dead_letters
    assert reasons(outs[0]) == ["too_many_series"] * 281
    assert "expected at most 20 series" in dead_letters[0].detail
    assert len([r for r in caplog.records if "detector.max_series" in r.getMessage()]) == 1


def test_after_a_restart_the_known_series_keep_their_places() -> None:
    first = Pipeline(limited(3), SCORER, MemoryProfiles())
    first.process(renumbered([record(0, slot, {"a": 1.0}, name) for slot in range(5) for name in ("x", "y", "z")]))
    made = first.checkpoint("t", 0)
    assert made is not None
    second = Pipeline(limited(3), SCORER, MemoryProfiles())
    assert second.assign("t", 0, *made) is not None
    out = second.process([record(15, 5, {"a": 1.0}, "attack"), record(16, 5, {"a": 1.0}, "z")])
    assert reasons(out) == ["too_many_series"]
    assert [status.series for status in second.statuses()] == ["z"]


@pytest.mark.parametrize("step", ["1s", None])
def test_a_clock_that_stands_still_costs_little_and_stops_nothing(step: str | None) -> None:
    settings = make_settings().model_copy(
        update={"subscription": (Subscription(topic="t", step=step, time_unit="ns"),)}
    )
    pipeline = Pipeline(settings, SCORER, MemoryProfiles())
    out = pipeline.process([record(i, 0, {"a": float(i)}) for i in range(6000)])
    [series] = pipeline._all_series()
    assert len(series.pre_grid) <= 4096
    assert set(reasons(out)) <= {"no_step"}
    later = [record(6000 + i, i, {"a": 1.0}) for i in range(40)]
    pipeline.process(later)
    [status] = pipeline.statuses()
    assert status.slots_seen >= 39


def test_series_with_few_readings_do_not_extend_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad.pipeline.partition.MAX_REPLAY_RECORDS", 100)
    once = record(0, 0, {"a": 7.0}, "once")
    other = [record(1 + i, i, {"a": 1.0, "b": 2.0}, "other") for i in range(400)]
    more = [record(401 + i, 1 + i, {"a": float(i)}, "once") for i in range(60)]
    settings, store = make_settings(), fitted_profiles(("a",), "once")
    whole = Pipeline(settings, SCORER, store)
    expected = contents([whole.process([once, *other, *more]), whole.flush()])

    first = Pipeline(settings, SCORER, store)
    outs = [first.process([once, *other])]
    made = first.checkpoint("t", 0)
    assert made is not None
    assert made[1].replay_offset > 0
    again = first.checkpoint("t", 0)
    assert again is None
    second = Pipeline(settings, SCORER, store)
    log = [once, *other, *more]
    begin = second.assign("t", 0, *made) or 0
    outs += [second.process(log[begin:430])]
    saved = second.checkpoint("t", 0)
    assert saved is not None
    third = Pipeline(settings, SCORER, store)
    begin = third.assign("t", 0, made[0] | saved[0], saved[1]) or 0
    outs += [third.process(log[begin:]), third.flush()]
    held = {key: value for key, value in contents(outs).items() if key[0] == "once"}
    assert held == {key: value for key, value in expected.items() if key[0] == "once"}
    assert len(held) == 61


def test_only_touched_series_report_their_status_again() -> None:
    pipeline = Pipeline(make_settings(), SCORER, MemoryProfiles())
    pipeline.process(renumbered([record(0, slot, {"a": 1.0}, name) for slot in range(3) for name in "xyz"]))
    assert sorted(status.series for status in pipeline.changed_statuses()) == ["x", "y", "z"]
    assert pipeline.changed_statuses() == []
    pipeline.process([record(9, 3, {"a": 1.0}, "y")])
    assert [status.series for status in pipeline.changed_statuses()] == ["y"]


def test_times_at_the_end_of_int64_are_refused() -> None:
    body = {"series": "s", "time": 2**63 - 1, "values": {"a": 1.0}}
    late = SourceRecord(SourcePosition("t", 0, 0), 0, None, json.dumps(body).encode())
    out = Pipeline(make_settings(), SCORER, fitted_profiles()).process([late])
    assert reasons(out) == ["bad_time"]


def test_a_series_without_readings_is_not_fitted_until_it_has_some() -> None:
    """Hours of nulls alone must neither stop the worker nor stay in memory."""
    empty = [record(i, i, {"a": float("nan"), "b": float("nan")}) for i in range(900)]
    log = [*empty, *(record(900 + i, 900 + i, {"a": float(i % 5), "b": 1.0}) for i in range(60))]
    pipeline = Pipeline(make_settings(), SCORER, MemoryProfiles())
    outs = [pipeline.process(log[:900])]
    assert not outs[0].scores
    [series] = pipeline._all_series()
    rows = series.windower.rows
    assert rows.top - rows.base < 400
    outs += [pipeline.process(log[900:]), pipeline.flush()]
    held = contents(outs)
    assert 40 < len(held) <= 60
    assert all(np.isfinite(score) for score, _ in held.values())


def test_times_out_of_order_do_not_pile_up_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each late reading may queue a whole look-back of windows; a poll holds thousands of them."""
    times = [slot - (30 if slot % 2 else 0) for slot in range(50, 1250)]
    log = [record(i, slot, {"a": float(slot % 9), "b": 1.0}) for i, slot in enumerate(times)]
    most = 0
    run_pending = BatchScorer.run_pending

    def watched(self: BatchScorer, active: Sequence[Series], out: Outputs) -> None:
        nonlocal most
        most = max(most, *(len(series.windower.queue) for series in active))
        run_pending(self, active, out)

    monkeypatch.setattr(BatchScorer, "run_pending", watched)
    whole = Pipeline(make_settings(), SCORER, fitted_profiles())
    at_once = contents([whole.process(log), whole.flush()])
    assert 30 < most < 40
    parts = Pipeline(make_settings(), SCORER, fitted_profiles())
    assert at_once == contents([*(parts.process(log[i : i + 7]) for i in range(0, len(log), 7)), parts.flush()])
