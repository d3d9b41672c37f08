"""The NAB score of a row over NAB's files of a data directory, through the pipeline.

A file is its train part (which is NAB's probationary beginning: its rows do not count) and its test part; the windows
are the runs of its labels. Three scores, each at its own best threshold:

`nab`         NAB's own: every row over the threshold is an alarm, and a false one costs, row after row;
`nab_alerts`  as the product alerts: an episode counts once, by its first row over the threshold after the
              quiet rows that alerts.cooldown_steps asks for;
`nab_told`    the same, counted at the row by which its score is emitted at the latest, delay + hop - 1 rows later.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.accuracy.harness import ROWS, Float64, Result, Table, Task, build, labels_of, scores_of, takes_seed
from benchmarks.accuracy.nab_score import NabFile, nab_score, probation_rows
from stream_ad.offline.accuracy import label_runs
from stream_ad.settings import Settings

FOLDERS = ("NAB", "NAB_artificialNoAnomaly")
NULL = "null"
RANDOM_SEEDS = 20  # the random row's own: single ones are 5 apart
WAYS = {"nab": "rows", "nab_alerts": "alerts", "nab_told": "alerts as emitted"}

# By benchmarks.accuracy.nab_score from the detectors' scores that NAB keeps (github.com/numenta/NAB at
# ea702d7, results/): on its
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


def nab_tasks(data: Path, rows: Sequence[str], seeds: Sequence[int]) -> list[NabTask]:
    """The rows and `null`, each with its seeds; nothing when the directory has no NAB series."""
    if not _tests(data):
        return []
    return [NabTask(row, seed) for row in rows for seed in _seeds(row, seeds)] + [NabTask(NULL, 0)]


def _seeds(row: str, seeds: Sequence[int]) -> Sequence[int]:
    if ROWS[row] is None:
        return range(RANDOM_SEEDS)
    return seeds if takes_seed(row) else seeds[:1]


def _tests(data: Path) -> list[Path]:
    return [test for folder in FOLDERS for test in sorted((data / folder).glob("*.test.parquet"))]


def measure_nab(task: NabTask, data: Path) -> Result:
    """Scores every file and looks for the best threshold."""
    started = time.perf_counter()
    scorer = build(task.row) if ROWS.get(task.row) else None
    lag = scorer.delay_steps + scorer.hop_steps - 1 if scorer else 0
    files = [_file(task, data, test) for test in _tests(data)]
    quiet = Settings().alerts.cooldown_steps
    ways = {
        "nab": nab_score(files),
        "nab_alerts": nab_score(files, quiet),
        "nab_told": nab_score([_later(file, lag) for file in files], quiet),
    }
    result = asdict(task) | {way: found.score for way, found in ways.items()}
    for way, found in ways.items():
        threshold = found.threshold if np.isfinite(found.threshold) else None
        result[f"{way}_at"] = {"threshold": threshold, "found": found.found, "false_alarms": found.false_alarms}
    seconds = round(time.perf_counter() - started, 2)
    windows = sum(len(file.windows) for file in files)
    return result | {"lag_rows": lag, "windows": windows, "files": len(files), "seconds": seconds}


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
    """Scores emitted after the end of the file do not count."""
    moved = np.full(len(file.scores), np.nan)
    moved[rows:] = file.scores[: len(moved) - rows]
    return NabFile(moved, file.windows, file.skipped)


def summary(table: Table) -> dict[str, Any]:
    """Of each row: the means over seeds, and the spread."""
    figures = {}
    for row, results in table.items():
        figures[row] = {name: results[0][name] for name in ("windows", "files", "lag_rows")}
        for way in WAYS:
            values = [r[way] for r in results]
            figures[row][way] = float(np.mean(values))
            figures[row][f"{way}_spread"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
            for count in ("found", "false_alarms"):
                figures[row][f"{way}_{count}"] = float(np.mean([r[f"{way}_at"][count] for r in results]))
    return figures


def print_nab(figures: Mapping[str, Mapping[str, Any]]) -> None:
    if not figures:
        return
    some = next(iter(figures.values()))
    files, windows = some["files"], some["windows"]
    width = max(map(len, [*figures, *PUBLISHED])) + 11
    print(f"\nNAB's score, standard profile, {files} files, {windows} windows: score (windows found, false alarms)")
    print(f"{'':{width}s}  " + "  ".join(f"{title:>22s}" for title in WAYS.values()))
    for row, d in figures.items():
        cells = []
        for way in WAYS:
            spread = "" if d[f"{way}_spread"] is None else f" ±{d[f'{way}_spread']:.1f}"
            cells.append(f"{d[way]:.1f}{spread} ({d[f'{way}_found']:.0f}, {d[f'{way}_false_alarms']:.0f})")
        print(f"{row:{width}s}  " + "  ".join(f"{cell:>22s}" for cell in cells), flush=True)
    if (files, windows) == (PUBLISHED_FILES, PUBLISHED_WINDOWS):
        for name, (every, here) in PUBLISHED.items():
            print(f"{'published: ' + name:{width}s}  {here:22.1f}  ({every:.1f} on NAB's 58 files)")
