"""What the settings of a topic become for its series: the episode rule, staggered windows."""

from __future__ import annotations

import pytest

from stream_ad.detection.episodes import EpisodeRule
from stream_ad.pipeline.series_config import SeriesConfig
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.settings import Settings, Subscription
from tests.support.fakes import MemoryProfiles
from tests.support.pipeline_runs import (
    SCORER,
    START_NS,
    STEP_NS,
    contents,
    fitted_profiles,
    log_of,
    make_settings,
    record,
    run,
    signal,
)


def test_default_alert_settings_give_the_default_episode_rule() -> None:
    settings = Settings(subscription=(Subscription(topic="t"),))
    assert SeriesConfig.of(settings, "t", SCORER).episodes == EpisodeRule(1.0, 0.8, 1, 16)


def staggered_lead(series: str) -> int:
    return SeriesConfig.of(make_settings(stagger=True), "t", SCORER).phase_steps(series)


@pytest.mark.parametrize("series", ["s", "boiler", "x9"])
def test_a_staggered_series_scores_like_one_with_empty_slots_before_it(series: str) -> None:
    values, lead = signal(150), staggered_lead(series)
    staggered = run(log_of(values, series=series), [40], make_settings(stagger=True), fitted_profiles(series=series))
    early = [record(0, 0, {"a": None, "b": None}, series)] if lead else []
    log = early + log_of(values, range(lead, lead + 150), series)
    log = [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, None, r.value) for i, r in enumerate(log)]
    plain = contents(run(log, [40], make_settings(), fitted_profiles(series=series)))
    moved = {(series, time_ns + lead * STEP_NS): score for (_, time_ns), score in contents(staggered).items()}
    assert moved == {key: score for key, score in plain.items() if key[1] >= START_NS + lead * STEP_NS}


@pytest.mark.parametrize("fitted", [True, False])
def test_staggered_series_complete_their_windows_at_different_slots(fitted: bool) -> None:
    names = [f"s{number}" for number in range(12)]
    rows = {name: log_of(signal(80, number), series=name) for number, name in enumerate(names)}
    log = [rows[name][slot] for slot in range(80) for name in names]
    log = [SourceRecord(SourcePosition("t", 0, i), r.timestamp_ns, None, r.value) for i, r in enumerate(log)]

    def emitted(stagger: bool) -> tuple[list[int], dict[tuple[str, int], tuple[float, int]]]:
        store = MemoryProfiles()
        for name in names if fitted else ():
            store.save(next(iter(fitted_profiles(series=name).saved.values())), promote=True)
        cuts = range(len(names), len(log), len(names))  # a poll a slot
        outs = run(log, list(cuts), make_settings(stagger=stagger), store)
        return [len(out.scores) for out in outs[:-1]], contents(outs)

    together, apart = emitted(False), emitted(True)
    assert max(together[0]) == len(names)
    assert max(apart[0]) < len(names)
    slots = 80 if fitted else 80 - SCORER.window_steps - SCORER.hop_steps
    assert all(sum(name == series for series, _ in apart[1]) >= slots for name in names)
