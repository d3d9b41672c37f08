"""How much a poll brings, from slow callers to quick ones."""

from __future__ import annotations

import pytest
from stream_ad_connectors.kafka.rebalance import AdaptiveBatchSize


@pytest.mark.parametrize("record_s", [1e-6, 1e-3, 0.02])
def test_the_time_between_polls_settles_at_the_target_or_below(record_s: float) -> None:
    pace, now_s, took = AdaptiveBatchSize(10_000), 0.0, []
    for _ in range(20):
        pace.asked(now_s)
        pace.handed(pace.limit, now_s)
        took.append(pace.limit * record_s)
        now_s += took[-1]
    assert max(took[1:]) <= 2.0
    assert took[-1] > 0.9 or pace.limit == 10_000


def test_an_outage_of_the_store_is_soon_made_up_for() -> None:
    pace = AdaptiveBatchSize(10_000)
    pace.handed(pace.limit, 0.0)
    pace.asked(3600.0)
    assert pace.limit == 50
    for _ in range(8):
        pace.handed(pace.limit, 0.0)
        pace.asked(0.1)
    assert pace.limit == 10_000


def test_few_records_say_nothing_of_many() -> None:
    pace = AdaptiveBatchSize(10_000)
    first = pace.limit
    pace.handed(1, 0.0)
    pace.asked(0.5)
    assert pace.limit == first
