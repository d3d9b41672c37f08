"""A few thousand hostile records, with the code of benchmarks/reliability/hostile.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hostile.stream import run_hostile
from tests.support.services.influxdb import Influx


@pytest.mark.parametrize("embedded", [False, True], ids=["influxdb", "embedded"])
def test_hostile_records_are_accounted_for_and_change_no_good_score(
    embedded: bool, tmp_path: Path, kafka: str, influx: Influx
) -> None:
    seed = 11 + embedded
    print(f"seed {seed}")
    outcome = run_hostile(tmp_path, kafka, None if embedded else influx, count=1500, seed=seed, scorer="control")
    assert outcome.clean, (outcome.crashes, outcome.unaccounted, outcome.good_differing, outcome.examples)
    assert outcome.sent == 1500
    assert outcome.scored > 300
    assert outcome.masked > 30
    assert outcome.dead_lettered > 700
    assert outcome.good_scores == outcome.good_sent
    assert outcome.good_alerts > 0
