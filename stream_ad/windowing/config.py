"""Parameters of the windows of one topic's series."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WindowingConfig"]


@dataclass(frozen=True, slots=True)
class WindowingConfig:
    """All in slots.

    A window of `window` slots advances by `hop`. A slot is scored `delay` slots before the end of a window, from rows
    up to `lookback` before that end. It closes `lateness` slots behind the newest one, and late data may revise it for
    `revise` slots more. memory: longest history that a profile is fitted on.
    """

    window: int
    hop: int
    delay: int
    lookback: int
    lateness: int
    revise: int
    memory: int
