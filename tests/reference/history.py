"""The thinned line of a plot, the obvious way: every slot in memory, bucket by bucket."""

from __future__ import annotations

from collections.abc import Mapping

from stream_ad.records import ScoreTrace

__all__ = ["buckets", "expect_trace"]

Bucket = dict[int, float]


def buckets(scores: Mapping[int, float], max_points: int) -> list[Bucket]:
    """Time -> score, cut into max_points // 2 parts of equal length; empty ones left out."""
    first, last = min(scores), max(scores)
    whole, rest = divmod(last - first + 1, max_points // 2)
    width = whole + bool(rest)
    parts: dict[int, Bucket] = {}
    for time_ns in sorted(scores):
        parts.setdefault((time_ns - first) // width, {})[time_ns] = scores[time_ns]
    return list(parts.values())


def expect_trace(found: ScoreTrace, scores: Mapping[int, float], max_points: int) -> None:
    """`scores` are all slots of the range that have a score."""
    points = dict(zip(found.event_time_ns.tolist(), found.score.tolist(), strict=True))
    assert found.slots == len(scores)
    assert len(points) == len(found) <= max_points
    assert found.event_time_ns.tolist() == sorted(points)
    assert points.items() <= scores.items(), "a point that is no stored slot"
    if len(scores) <= max_points:
        assert points == scores
        return
    for bucket in buckets(scores, max_points):
        kept = [points[time_ns] for time_ns in bucket if time_ns in points]
        highest, lowest = max(bucket.values()), min(bucket.values())
        assert sorted(set(kept)) == sorted({highest, lowest})
        assert len(kept) <= 2
