"""The NAB score of a row over NAB's files of a data directory, through the pipeline.

A file is its train part (which is NAB's probationary beginning: its rows do not count) and its test part; the windows
are the runs of its labels. Two scores: `nab`, each row's score at that row, as everywhere in these tables; and
`nab_told`, each score at the row by which it is told at the latest, delay + hop - 1 rows later.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from harness import ROWS, Float64, Result, Table, Task, build, labels_of, scores_of

from stream_ad.metrics import label_runs
from stream_ad.nab_score import NabFile, nab_score, probation_rows

FOLDERS = ("NAB", "NAB_artificialNoAnomaly")
NULL = "null"

# By stream_ad.nab_score from the detectors' scores that NAB keeps (github.com/numenta/NAB at ea702d7, results/): on its
# 58 files, equal to the published score, and on the 29 of the data directory that our figures are made with.
PUBLISHED_FILES, PUBLISHED_WINDOWS = 29, 49
PUBLISHED = {
    "ARTime": (74.85, 67.57),
    "Numenta HTM": (70.10, 66.09),
    "HTM, temporal memory": (64.55, 62.51),
    "CAD OSE": (69.90, 61.18),
    "KNN CAD": (57.99, 53.91),
    "random cut forest": (51.72, 51.95),
    "relative entropy": (54.64, 49.20),
    "earthgecko Skyline": (58.20, 48.35),
    "Etsy Skyline": (35.69, 34.11),
    "Twitter ADVec": (47.06, 31.22),
    "windowed Gaussian": (39.65, 24.30),
    "Bayesian changepoint": (17.71, 22.72),
    "EXPoSE": (16.44, 12.81),
}


@dataclass(frozen=True)
class NabTask:
    """All files under one scorer: one threshold serves them all. row: of ROWS, or `null`: the same score everywhere."""

    row: str
    seed: int
    table: str = "nab"

    @property
    def key(self) -> str:
        return f"{self.table}/{self.row}/{self.seed}"


def nab_tasks(data: Path, rows: Sequence[str], seed: int) -> list[NabTask]:
    """None when the directory has no NAB series."""
    return [NabTask(row, seed) for row in rows] if any(_tests(data)) else []


def _tests(data: Path) -> list[Path]:
    return [test for folder in FOLDERS for test in sorted((data / folder).glob("*.test.parquet"))]


def measure_nab(task: NabTask, data: Path) -> Result:
    """Scores every file and looks for the best threshold."""
    started = time.perf_counter()
    scorer = build(task.row) if ROWS.get(task.row) else None
    lag = scorer.delay_steps + scorer.hop_steps - 1 if scorer else 0
    files = [_file(task, data, test) for test in _tests(data)]
    dated, told = nab_score(files), nab_score([_later(file, lag) for file in files])
    return asdict(task) | {
        "nab": dated.score,
        "nab_told": told.score,
        "lag_rows": lag,
        "threshold": dated.threshold if np.isfinite(dated.threshold) else None,
        "threshold_told": told.threshold if np.isfinite(told.threshold) else None,
        "windows": dated.windows,
        "found": dated.found,
        "found_told": told.found,
        "false_alarms": dated.false_alarms,
        "false_alarms_told": told.false_alarms,
        "files": len(files),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _file(task: NabTask, data: Path, test: Path) -> NabFile:
    labels = labels_of(test)
    series = test.name.removesuffix(".test.parquet")
    if task.row == NULL:
        scores: Float64 = np.full(len(labels), 0.5)
    else:
        one = Task(task.table, task.row, test.parent.name, series, None, 0, task.seed)
        scores = scores_of(one, data, len(labels))
    before = pq.read_metadata(test.with_name(f"{series}.train.parquet")).num_rows
    windows = [(first + before, last + before) for first, last in label_runs(labels)]
    full = np.concatenate([np.full(before, np.nan), scores])
    return NabFile(full, windows, max(before, probation_rows(len(full))))


def _later(file: NabFile, rows: int) -> NabFile:
    """What is told after the file's end is not told."""
    moved = np.full(len(file.scores), np.nan)
    moved[rows:] = file.scores[: len(moved) - rows]
    return NabFile(moved, file.windows, file.skipped)


def summary(table: Table) -> dict[str, Any]:
    """Of each row: the means over seeds, and their spread."""
    told = {}
    for row, results in table.items():
        figures = {
            name: float(np.mean([r[name] for r in results])) for name in ("nab", "nab_told", "found", "false_alarms")
        }
        values = [r["nab"] for r in results]
        told[row] = figures | {
            "nab_spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "windows": results[0]["windows"],
            "files": results[0]["files"],
            "lag_rows": results[0]["lag_rows"],
        }
    return told


def print_nab(told: Mapping[str, Mapping[str, Any]]) -> None:
    if not told:
        return
    some = next(iter(told.values()))
    files, windows = some["files"], some["windows"]
    width = max(map(len, [*told, *PUBLISHED])) + 11
    print(f"\nNAB's score, standard profile, {files} files with {windows} windows (0 = null, 100 = perfect)")
    print(f"{'':{width}s}  at its row  as told  windows found  false alarms")
    for row, d in told.items():
        seeds = "" if d["nab_spread"] is None else f" ±{d['nab_spread']:.1f}"
        score = f"{d['nab']:.1f}{seeds}"
        print(
            f"{row:{width}s}  {score:>10s}  {d['nab_told']:7.1f}  {d['found']:13.1f}  {d['false_alarms']:12.1f}",
            flush=True,
        )
    if (files, windows) == (PUBLISHED_FILES, PUBLISHED_WINDOWS):
        for name, (every, here) in PUBLISHED.items():
            print(f"{'published: ' + name:{width}s}  {here:10.1f}           ({every:.1f} on NAB's 58 files)")
