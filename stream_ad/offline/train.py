"""Trains group models on files, for `stream-ad train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stream_ad.detection.profiles import history_on_grid
from stream_ad.errors import DataError
from stream_ad.settings import Settings
from stream_ad.wiring import read_table, save_group_model

__all__ = ["train_files"]

MAX_GAP = 256


def train_files(
    paths: Sequence[Path],
    settings: Settings,
    name: str,
    steps: int = 400,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Path:
    """Trains the group model `name` on series with the same channels and saves it; returns its path.

    progress(step, loss) is called after each step.
    """
    tables = [read_table(path) for path in paths]
    if not tables:
        raise DataError("expected at least one file, found none")
    for table in tables:
        if table.channels != tables[0].channels:
            raise DataError(
                f"{table.series}: expected the {len(tables[0].channels)} channels of {tables[0].series}, "
                f"found {len(table.channels)}: {', '.join(table.channels[:8])}"
            )
    histories = [history_on_grid(t.times_ns, t.values, None, MAX_GAP)[0] for t in tables]
    settings = settings.model_copy(update={"detector": settings.detector.model_copy(update={"group": name})})
    return save_group_model(histories, settings, steps=steps, seed=seed, progress=progress)
