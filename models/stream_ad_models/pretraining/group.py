"""Training of group models (stream_ad_models.imputer.group) on the rows of similar series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad_models.imputer.checkpoint import run_facts
from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig
from stream_ad_models.imputer.imputer import GroupImputer
from stream_ad_models.imputer.intervals import NEUTRAL_INTERVALS, interval_factors
from stream_ad_models.imputer.masks import missing_masks, training_masks
from stream_ad_models.pretraining.trainer import Batch, FitSettings, Progress, fit

__all__ = ["group_batches", "train_group"]

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_HELD_OUT_SHARE = 0.1  # of each history, its last rows: they calibrate the intervals
_CALIBRATION_WINDOWS = 200


def train_group(
    histories: Sequence[Float32],
    steps: int = 400,
    batch: int = 32,
    seed: int = 0,
    trim: float = 0.0,
    progress: Progress | None = None,
) -> GroupImputer:
    """Train on the rows of similar series; 5 to 30 s on one core.

    histories: float32 [n_i, K] each, z-scored per channel, NaN = no reading, n_i >= 128. progress(step, loss) is
    called once a step. trim: share of every batch left out as probably anomalous (`fitting.kept_windows`).
    With 0 to 20% of the windows contaminated it changes next to nothing (average precision .362 to .359 without, .361
    with a trim of .1; benchmarks/accuracy/trimming.py), so it is off. The same arguments give the same weights.
    """
    channels = _channels(histories)
    torch.manual_seed(seed)
    model = Denoiser(DenoiserConfig(channels=channels))
    window = model.config.window_steps
    kept, held_out = _split(histories, window)
    settings = FitSettings(steps=steps, warmup_steps=min(40, steps // 10 + 1), ema_decay=0.98, rate=3e-3, trim=trim)
    rng = np.random.default_rng(seed)
    loss = fit(model, group_batches(rng, kept, window, batch), settings, torch.Generator().manual_seed(seed), progress)
    card: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "trim": trim,
        "data": f"{len(histories)} series, {sum(map(len, histories))} rows of {channels} channels",
        "loss": round(loss, 5),
        **NEUTRAL_INTERVALS,
        **run_facts(),
    }
    windows = _windows(rng, held_out, window, _CALIBRATION_WINDOWS)
    return GroupImputer(model, card | interval_factors(GroupImputer(model, card), windows))


def group_batches(rng: np.random.Generator, histories: Sequence[Float32], window: int, batch: int) -> Iterator[Batch]:
    """Endless windows of the histories. Masks cover all channels equally, as the stripe masks of `impute` do; in some
    windows whole channels are hidden as well (channel drop-out), so that a dead sensor is nothing new."""
    while True:
        values = _windows(rng, histories, window, batch)
        present = ~np.isnan(values)
        cond = (training_masks(rng, batch, window) & missing_masks(rng, batch, window, share=0.1))[..., None]
        channel = (batch, 1, values.shape[2])
        dropped = (rng.random((batch, 1, 1)) < 0.3) & (rng.random(channel) < rng.uniform(0, 0.5, (batch, 1, 1)))
        visible = present & cond & ~dropped
        yield Batch(np.nan_to_num(values), visible, present & ~visible)


def _channels(histories: Sequence[Float32]) -> int:
    if not histories:
        raise DataError("group: expected at least one history, found none")
    needed = DenoiserConfig().window_steps
    channels = int(histories[0].shape[-1])
    for number, history in enumerate(histories):
        if history.ndim != 2 or history.shape[1] != channels or len(history) < needed:
            raise DataError(
                f"group: expected every history [n >= {needed}, {channels}], found {list(history.shape)} at {number}"
            )
        if np.isinf(history).any():
            raise DataError(f"group: expected finite values or NaN (missing), found infinity in history {number}")
    if channels < 1:
        raise DataError("group: expected at least 1 channel, found 0")
    return channels


def _split(histories: Sequence[Float32], window: int) -> tuple[list[Float32], list[Float32]]:
    """Rows to train on and rows to calibrate on: the last tenth if that is a window long; short histories serve for
    both, and their intervals are a little narrow."""
    pairs = [(history, int(len(history) * _HELD_OUT_SHARE)) for history in histories]
    held_out = [history[-tail:] for history, tail in pairs if tail >= window]
    kept = [history[:-tail] if tail >= window else history for history, tail in pairs]
    return kept, held_out or list(histories)


def _windows(rng: np.random.Generator, histories: Sequence[Float32], window: int, count: int) -> Float32:
    """Windows float32 [count, window, K], every start of every history equally likely."""
    starts = np.array([len(history) - window + 1 for history in histories])
    which = rng.choice(len(histories), count, p=starts / starts.sum())
    pairs = zip(which, rng.integers(0, starts[which]), strict=True)
    return np.stack([histories[number][start : start + window] for number, start in pairs]).astype(
        np.float32, copy=False
    )
