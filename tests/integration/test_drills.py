"""A short drill: every kind of fault once, overlapping; the store ends as without faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.drills import Plan, World, run_drill
from tests.support.drills.faults import kinds
from tests.support.services.errors import skip_if_unavailable


@pytest.mark.integration
def test_overlapping_faults_lose_duplicate_and_change_nothing(tmp_path: Path) -> None:
    every = len(kinds(embedded=False))
    with skip_if_unavailable(), World() as world:
        outcome = run_drill(tmp_path, world, Plan(seed=3, faults=every, at_once=every, span_s=8))
    assert outcome.clean, outcome.as_json()
    assert len(outcome.by_kind) == every
    assert outcome.slots > 0
    assert outcome.alerts > 0
    assert outcome.revised > 0
    assert outcome.dead_letters > 0
