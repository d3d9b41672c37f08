"""Pretrain the universal imputer on synthetic series: python -m stream_ad_models.pretraining.pretrain --out DIR."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stream_ad_models.imputer.checkpoint import run_facts, save_denoiser
from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.imputer.intervals import NEUTRAL_INTERVALS, interval_factors
from stream_ad_models.imputer.masks import missing_masks, training_masks
from stream_ad_models.pretraining.synthetic import synthetic_series, synthetic_windows
from stream_ad_models.pretraining.trainer import Batch, FitSettings, fit

__all__ = ["UNIVERSAL", "main", "measure_intervals", "pretrain", "pretraining_batches"]

Float32 = NDArray[np.float32]

# One block, of which a stream needs only one token (ADR 11, 22).
UNIVERSAL = DenoiserConfig(patch_steps=16, blocks=1, mlp_ratio=4)
BATCH = 128
SERIES = 16_000
REFRESH_STEPS = 12_000  # new series after so many steps, to avoid overfitting


def pretraining_batches(seed: int, window_steps: int, series: int = SERIES, batch: int = BATCH) -> Iterator[Batch]:
    """Endless windows of synthetic series, each scaled by e^N(0, .5) and shifted by N(0, 1), with masks of all kinds.

    Missing readings are hidden from the condition but stay targets: of a synthetic series the truth is known.
    """
    rng = np.random.default_rng(seed)
    step = 0
    while True:
        if step % REFRESH_STEPS == 0:
            pool = synthetic_series(rng, series)
        step += 1
        windows = synthetic_windows(rng, pool, batch, window_steps)
        values = windows * np.exp(rng.normal(0, 0.5, (batch, 1))) + rng.normal(0, 1, (batch, 1))
        cond = training_masks(rng, batch, window_steps) & missing_masks(rng, batch, window_steps)
        yield Batch(values.astype(np.float32)[..., None], cond[..., None], ~cond[..., None])


def pretrain(seed: int, steps: int, series: int, report: Any) -> tuple[Denoiser, dict[str, Any]]:
    """Trains from scratch; returns the model and its card. report(step, loss) is called once a step."""
    torch.manual_seed(seed)
    model = Denoiser(UNIVERSAL)
    settings = FitSettings(steps=steps, warmup_steps=min(500, steps // 10 + 1))
    started = time.monotonic()
    batches = pretraining_batches(seed, model.config.window_steps, series)
    loss = fit(model, batches, settings, torch.Generator().manual_seed(seed), report)
    card = {
        "seed": seed,
        "steps": steps,
        "batch": BATCH,
        "series": series,
        "refresh_steps": REFRESH_STEPS,
        "data": "synthetic series only (stream_ad_models.pretraining.synthetic), window scale e^N(0,.5), shift N(0,1)",
        "loss": round(loss, 5),
        "seconds": round(time.monotonic() - started),
        **run_facts(),
    }
    return model, card | measure_intervals(model, seed, min(series, 2000))


def measure_intervals(model: Denoiser, seed: int, series: int = 2000) -> dict[str, Any]:
    """Temperature and interval factors on synthetic series that the training did not draw."""
    rng = np.random.default_rng([seed, 1])
    windows = synthetic_windows(rng, synthetic_series(rng, series), 2 * series, model.config.window_steps)[..., None]
    return interval_factors(UniversalImputer(model, NEUTRAL_INTERVALS), windows)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stream_ad_models.pretraining.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory of universal.safetensors and its card")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=48_000, help="optimiser steps (batch %(default)s)")
    parser.add_argument("--series", type=int, default=SERIES, help="synthetic series held at a time")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    torch.set_num_threads(1)
    console = Console(stderr=True)
    started = time.monotonic()
    columns = (BarColumn(), TextColumn("{task.completed}/{task.total} loss {task.fields[loss]:.4f}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("pretrain", total=args.steps, loss=float("nan"))

        def report(step: int, loss: float) -> None:
            if console.is_terminal:
                bar.update(task, completed=step, loss=loss)
            elif step % 500 == 0 or step == args.steps:
                rate = step / (time.monotonic() - started)
                print(f"step {step}/{args.steps} loss {loss:.4f} {rate:.1f} steps/s", file=sys.stderr, flush=True)

        model, card = pretrain(args.seed, args.steps, args.series, report)
    # moved into place at the end: an interrupted run never leaves half a model
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as aside:
        saved = save_denoiser(model, Path(aside), "universal", card)
        for path in (saved, saved.with_suffix(".json")):
            path.replace(args.out / path.name)
    print(f"{args.out / 'universal.safetensors'}: loss {card['loss']}, {card['seconds']} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
