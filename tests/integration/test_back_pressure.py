"""A store outage: consumption pauses, memory stays flat, and everything is written afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.drills import World
from tests.support.drills.outage import measure_outage
from tests.support.services.errors import skip_if_unavailable


@pytest.mark.integration
def test_a_store_outage_costs_neither_memory_nor_data(tmp_path: Path) -> None:
    with skip_if_unavailable(), World() as world:
        outage = measure_outage(tmp_path / "home", world, away_s=12, rows_per_s=20)
    assert outage.waiting_mib > 30, outage
    assert outage.lag > 1000, outage
    assert outage.growth_mib < 12, outage
    assert outage.takeovers == 1, outage
    assert outage.complete, outage
