"""The adaptive poll size, from slow callers to fast ones."""

from __future__ import annotations

import pytest
from stream_ad_connectors.kafka.rebalance import AdaptiveBatchSize


@pytest.mark.parametrize("record_s", [1e-6, 1e-3, 0.02])
def test_the_work_between_polls_converges_to_the_target_or_below(record_s: float) -> None:
    size, now_s, took = AdaptiveBatchSize(10_000), 0.0, []
    for _ in range(20):
        size.poll_started(now_s)
        size.poll_returned(size.limit, now_s)
        took.append(size.limit * record_s)
        now_s += took[-1]
    assert max(took[1:]) <= 2.0
    assert took[-1] > 0.9 or size.limit == 10_000


def test_the_poll_size_recovers_soon_after_an_outage() -> None:
    size = AdaptiveBatchSize(10_000)
    size.poll_returned(size.limit, 0.0)
    size.poll_started(3600.0)
    assert size.limit == 50
    for _ in range(8):
        size.poll_returned(size.limit, 0.0)
        size.poll_started(0.1)
    assert size.limit == 10_000


def test_a_partial_batch_leaves_the_poll_size_unchanged() -> None:
    size = AdaptiveBatchSize(10_000)
    first = size.limit
    size.poll_returned(1, 0.0)
    size.poll_started(0.5)
    assert size.limit == first
