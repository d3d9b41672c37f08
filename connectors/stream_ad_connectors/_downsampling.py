"""How a long range of scores is cut for a line of few points: the same in every store."""

from __future__ import annotations

from stream_ad.errors import DataError

__all__ = ["bucket_ns", "check_max_points"]


def check_max_points(max_points: int) -> None:
    """DataError below 2: a bucket gives its highest and its lowest."""
    if max_points < 2:
        raise DataError(f"max_points: expected at least 2, found {max_points}")


def bucket_ns(first_ns: int, last_ns: int, max_points: int) -> int:
    """Length of each of max_points // 2 buckets, the first of which begins at first_ns."""
    return -(-(last_ns + 1 - first_ns) // (max_points // 2))
