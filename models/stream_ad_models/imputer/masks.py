"""Masks of a window: which points are condition, which are target. True = present, everywhere.

observed_mask: the reading exists. cond_mask: the model may use it. target_mask = observed_mask & ~cond_mask.
A mask over steps is bool [window]; for training, bool [batch, window]. Stripe masks are those of
ImDiffusion (Chen et al. 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_STRIPE", "complementary_stripes", "missing_masks", "stripe", "training_masks"]

Bool = NDArray[np.bool_]

MAX_STRIPE = 32  # steps; the widest stripe in training
_KIND_SHARE = (0.22, 0.40, 0.10, 0.12, 0.11, 0.05)  # of the masks in `training_masks`, in their order


def stripe(window_steps: int, width: int, phase: int = 0) -> Bool:
    """Alternating stripes of `width` steps, the first one present: bool [window]."""
    if not 1 <= width <= window_steps:
        raise ValueError(f"stripe: expected a width of 1 to {window_steps} steps, found {width}")
    return np.asarray((np.arange(window_steps) + phase) // width % 2 == 0)


def complementary_stripes(window_steps: int, width: int) -> tuple[Bool, Bool]:
    """A stripe mask and its complement: together every step is a target exactly once."""
    first = stripe(window_steps, width)
    return first, ~first


def training_masks(rng: np.random.Generator, batch: int, window_steps: int) -> Bool:
    """cond_mask per window, bool [batch, window]: 1-step stripes (the pointwise error uses them), wider stripes at any
    phase, a trailing gap, a gap, random points, all hidden."""
    step = np.arange(window_steps)
    column = (batch, 1)
    width = np.round(2 ** rng.uniform(0.6, np.log2(MAX_STRIPE), column)).astype(np.int64)
    phase = rng.integers(0, 2 * MAX_STRIPE, column)
    hidden = np.round(2 ** rng.uniform(0, np.log2(window_steps * 0.75), column)).astype(np.int64)
    start = rng.integers(-8, window_steps, column)
    choices = [
        (step + phase) % 2 == 0,
        (step + phase) // width % 2 == 0,
        step < window_steps - hidden,
        (step < start) | (step >= start + hidden),
        rng.random((batch, window_steps)) > rng.uniform(0.05, 0.95, column),
        np.zeros((batch, window_steps), dtype=np.bool_),
    ]
    kind = rng.choice(len(choices), batch, p=_KIND_SHARE)
    return np.stack([np.broadcast_to(choice, (batch, window_steps)) for choice in choices])[kind, np.arange(batch)]


def missing_masks(rng: np.random.Generator, batch: int, window_steps: int, share: float = 0.25) -> Bool:
    """observed_mask per window, bool [batch, window]: `share` of the windows lack readings, half of those single ones
    at a random rate, half one stretch (a silent sensor)."""
    step = np.arange(window_steps)
    column = (batch, 1)
    single = rng.random((batch, window_steps)) > rng.uniform(0.0, 0.6, column)
    start = rng.integers(-window_steps // 2, window_steps, column)
    stretch = (step < start) | (step >= start + rng.integers(1, window_steps // 2, column))
    kind = rng.random(column)
    return np.asarray(np.where(kind < share / 2, single, np.where(kind < share, stretch, True)))
