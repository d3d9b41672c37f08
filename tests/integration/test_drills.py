"""A short drill: each kind of fault once, and the store ends as if there had been none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.drills import run_drill
from tests.services.influxdb import InfluxServer
from tests.services.kafka import KafkaServer


@pytest.mark.timeout(600)
def test_no_fault_loses_doubles_or_changes_a_score(
    tmp_path: Path, kafka_server: KafkaServer, influx_server: InfluxServer
) -> None:
    outcome = run_drill(tmp_path, kafka_server, influx_server, faults=7, seed=3)
    assert len(outcome.by_kind) == 7
    assert outcome.clean, outcome.as_json()
    assert outcome.slots == 3 * 300 * 8
    assert outcome.alerts > 0
