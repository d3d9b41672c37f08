"""Parts and unions of score batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_ad.records import ScoreBatch


def batch_of(times: Sequence[int], revisions: Sequence[int]) -> ScoreBatch:
    """Every value of a slot is its time, plus a tenth per revision."""
    score = np.array(times) + 0.1 * np.array(revisions)
    columns = np.repeat(score[:, None], 2, axis=1).astype(np.float32)
    ids = tuple(f"{time}-{revision}" for time, revision in zip(times, revisions, strict=True))
    revision = np.array(revisions, np.int32)
    values = (columns,) * 5
    return ScoreBatch("s", ("a", "b"), np.array(times, np.int64), score, *values, revision, ids, "v1")


def rows_of(batch: ScoreBatch) -> list[tuple[int, int, str]]:
    for array in (batch.value, batch.expected, batch.lower, batch.upper, batch.attribution):
        np.testing.assert_array_equal(array, np.repeat(batch.score[:, None], 2, axis=1).astype(np.float32))
    return list(zip(batch.event_time_ns.tolist(), batch.revision.tolist(), batch.alert_id, strict=True))


def test_select_keeps_the_marked_slots() -> None:
    batch = batch_of([1, 2, 3], [0, 1, 0])
    assert rows_of(batch.select(np.array([True, False, True]))) == [(1, 0, "1-0"), (3, 0, "3-0")]
    assert batch.select(np.ones(3, bool)) is batch
    assert len(batch.select(np.zeros(3, bool))) == 0


def test_head_is_at_most_the_batch() -> None:
    batch = batch_of([1, 2, 3], [0, 1, 0])
    assert rows_of(batch.head(2)) == [(1, 0, "1-0"), (2, 1, "2-1")]
    assert rows_of(batch.head(9)) == rows_of(batch)


def test_merge_orders_by_time_and_keeps_the_newest_revision() -> None:
    merged = ScoreBatch.merge([batch_of([5, 6], [2, 0]), batch_of([1, 5], [0, 0]), batch_of([5, 7], [1, 0])])
    assert rows_of(merged) == [(1, 0, "1-0"), (5, 2, "5-2"), (6, 0, "6-0"), (7, 0, "7-0")]
