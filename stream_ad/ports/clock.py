"""Wall-clock time."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """Wall-clock time, for duties that are not event time (silence, watchdog)."""

    def now_ns(self) -> int: ...
    def monotonic_s(self) -> float: ...
