"""`train`: one group model from the files of similar series."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from stream_ad.cli.common import Json, emit_json, say, settings_of

__all__ = ["command"]

_PROGRESS_S = 2.0


def command(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(help="Parquet or CSV files of series with the same channels.", metavar="FILE...")
    ],
    group: Annotated[str, typer.Option(help="Name of the group.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 400,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_json: Json = False,
) -> None:
    """Train one model for a group of similar series; detector.scorer = "group" then scores with it."""
    settings = settings_of(context)
    from stream_ad.offline.train import train_files

    begun = reported = time.monotonic()

    def progress(step: int, loss: float) -> None:
        nonlocal reported
        if time.monotonic() - reported > _PROGRESS_S:
            reported = time.monotonic()
            say(f"step {step} of {steps}, loss {loss:.4f}")

    path = train_files(files, settings, group, steps=steps, seed=seed, progress=progress)
    seconds = round(time.monotonic() - begun, 1)
    if as_json:
        emit_json({"group": group, "path": str(path), "steps": steps, "seed": seed, "seconds": seconds})
    else:
        print(f"{group}: {path} ({seconds} s)")
