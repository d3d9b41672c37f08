"""Channels of a series: unknown ones, and how many it learns."""

from __future__ import annotations

from tests.support.fakes import MemoryProfiles
from tests.support.pipeline_runs import (
    contents,
    fitted_profiles,
    make_settings,
    record,
    run,
)


def test_unknown_channels_are_dead_letters_and_the_known_ones_are_scored() -> None:
    log = [record(i, i, {"a": 1.0, "b": 2.0, "new": 3.0}) for i in range(40)]
    outs = run(log, [], make_settings(), fitted_profiles())
    assert len(contents(outs)) == 40
    assert {d.reason for o in outs for d in o.dead_letters} == {"unknown_channel"}


def test_a_series_learns_no_more_channels_than_allowed() -> None:
    conf = make_settings()
    conf = conf.model_copy(update={"detector": conf.detector.model_copy(update={"max_channels": 3})})
    log = [record(i, i, {"a": 1.0, f"c{i}": 2.0}) for i in range(40)]
    outs = run(log, [], conf, MemoryProfiles())
    assert {d.reason for o in outs for d in o.dead_letters} == {"unknown_channel"}
    assert {b.channels for o in outs for b in o.scores} == {("a", "c0", "c1")}
