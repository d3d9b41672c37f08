"""Defaults of every scorer of the package, in steps."""

from __future__ import annotations

__all__ = ["DELAY_STEPS", "HOP_STEPS", "WINDOW_STEPS"]

WINDOW_STEPS = 128
HOP_STEPS = 16
DELAY_STEPS = 32
