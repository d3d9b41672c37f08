"""Buckets of a down-sampled score line, the same in every store."""

from __future__ import annotations

from stream_ad.errors import DataError

__all__ = ["bucket_ns", "check_max_points"]


def check_max_points(max_points: int) -> None:
    """DataError below 2: each bucket returns its maximum and its minimum."""
    if max_points < 2:
        raise DataError(f"max_points: expected at least 2, found {max_points}")


def bucket_ns(first_ns: int, last_ns: int, max_points: int) -> int:
    """Length of each of max_points // 2 buckets; the first begins at first_ns."""
    return -(-(last_ns + 1 - first_ns) // (max_points // 2))
