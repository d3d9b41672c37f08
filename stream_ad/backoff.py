"""Exponential back-off: how long to wait before each retry. Pure: the caller owns the clock and the sleep."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]

_MAX_DOUBLINGS = 30  # keeps the power small over endless failures


@dataclass(slots=True)
class Backoff:
    """`first`, then twice as long after each failure, never longer than `longest`; in any unit.

    >>> backoff = Backoff(0.5, 15.0)
    >>> [backoff.next_wait() for _ in range(7)]
    [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    """

    first: float
    longest: float
    failures: int = 0

    def next_wait(self, at_least: float | None = None) -> float:
        """The wait after one more failure. at_least: the pause that the dependency asked for, which may be longer."""
        wait = min(self.first * 2.0 ** min(self.failures, _MAX_DOUBLINGS), self.longest)
        self.failures += 1
        return max(wait, at_least or 0)

    def reset(self) -> None:
        """After a success."""
        self.failures = 0
