"""`demo`: scores a simulated plant with labelled faults and the metrics of this machine, live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_ad.cli.common import options_of, settings_of

__all__ = ["command"]


def command(
    context: typer.Context,
    seconds: Annotated[float, typer.Option(min=1, help="Duration of the live part.")] = 75,
    out: Annotated[Path, typer.Option(help="Directory for the store, the config and the picture.")] = Path("demo_out"),
    seed: Annotated[int, typer.Option(help="Seed of the plant and its faults.")] = 7,
) -> None:
    """Fit, score and alert on a simulated plant, without any service; ends with a report and a picture."""
    settings = settings_of(context) if options_of(context).config else None
    from stream_ad.demo.run import run_demo

    run_demo(seconds=seconds, out=out, seed=seed, settings=settings)
