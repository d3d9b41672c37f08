"""Checkpoints of a partition: where a restart starts to read, and when there is nothing to store."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Checkpoint, Scorer
from tests.support.pipeline_runs import (
    SCORER,
    contents,
    fitted_profiles,
    log_of,
    make_settings,
    record,
    signal,
)


def test_a_restart_replays_no_more_than_the_windows_need() -> None:
    log = log_of(signal(3000))
    pipeline = Pipeline(make_settings(), SCORER, fitted_profiles())
    pipeline.process(log)
    made = pipeline.checkpoint("t", 0)
    assert made is not None
    assert made[1].next_offset == 3000
    assert 3000 - made[1].replay_offset < SCORER.lookback_steps + 64 + 64 + 20


def test_a_series_far_behind_does_not_extend_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad.pipeline.partition.MAX_REPLAY_RECORDS", 500)
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


def test_an_idle_partition_has_no_checkpoint() -> None:
    pipeline = Pipeline(make_settings(), SCORER, fitted_profiles())
    assert pipeline.checkpoint("t", 0) is None
    pipeline.process(log_of(signal(20)))
    assert pipeline.checkpoint("t", 0) is not None
    assert pipeline.checkpoint("t", 0) is None
    assert isinstance(SCORER, Scorer)
    assert Checkpoint(1, 0) != Checkpoint(1, 1)
