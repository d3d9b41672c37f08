"""What the windows of the series of one topic are cut by."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WindowingConfig"]


@dataclass(frozen=True, slots=True)
class WindowingConfig:
    """All in steps. A window of `window` advances by `hop`; a slot is scored once `delay` later ones are in, from rows
    up to `lookback` before the window's end. It closes `lateness` slots after the newest; `revise`: how far behind
    late data may still change it. memory: history that profiles grow to."""

    window: int
    hop: int
    delay: int
    lookback: int
    lateness: int
    revise: int
    memory: int
