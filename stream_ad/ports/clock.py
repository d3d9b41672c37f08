"""The clock that the runtime reads."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """Processing time, for duties that event time cannot serve: absence alerts, the watchdog, retries."""

    def now_ns(self) -> int:
        """Wall-clock time, nanoseconds since 1970 UTC."""
        ...

    def monotonic_s(self) -> float: ...
