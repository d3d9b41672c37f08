"""Accuracy and cost of the families of diffusion scores, through the pipeline's own code.

    make bench-families DATA=DIR ARGS="[--every N] [--most-rows R] [--rows density] [--jobs N]"

Series: every N-th of the labelled ones in alphabetical order, their first R rows (chosen without labels; a
series with no anomaly there drops out), VUS-PR with a window of 100. Rows: stream_ad_models.research.families, all
under one smoothing and head, and for comparison the default scorer, the control and random numbers. Resumable.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.research.families import FAMILIES, FamilyScorer

from benchmarks.accuracy.harness import (
    PUBLISHED,
    Results,
    build,
    environment,
    filled,
    labels_of,
    parser_of,
    random_scores,
    rows_of,
    run,
)
from benchmarks.accuracy.summaries import print_table
from stream_ad.errors import DataError
from stream_ad.offline.accuracy import auc_pr, vus_pr
from stream_ad.offline.backtest import Case, score_case
from stream_ad.ports import Scorer
from stream_ad.settings import Settings

WINDOW = 100
OTHERS = ("universal", "control", "random")


@dataclass(frozen=True)
class Job:
    """One series under one family. train_rows None: fit on the train file."""

    row: str
    dataset: str
    series: str
    train_rows: int | None
    most_rows: int
    seed: int = 0

    @property
    def key(self) -> str:
        return f"{self.row}/{self.most_rows}/{self.dataset}/{self.series}"


def measure(job: Job, data: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    source = data / job.dataset / f"{job.series}.test.parquet"
    labels = labels_of(source)[: job.most_rows]
    if not labels.any():
        raise DataError(f"expected an anomaly in the first {job.most_rows} rows, found none")
    started = time.perf_counter()
    if job.row == "random":
        scores, channels = random_scores(job, job.seed, len(labels)), 0
    else:
        with tempfile.TemporaryDirectory() as place:
            test = Path(place) / source.name
            pd.read_parquet(source).head(job.most_rows).to_parquet(test, index=False)
            train = source.with_name(f"{job.series}.train.parquet")
            case = Case(job.dataset, job.series, test, train if train.exists() else None, job.train_rows)
            scored = score_case(case, Settings(), _scorer(job.row))
        scores, channels = scored.score, len(scored.table.channels)
    seconds = time.perf_counter() - started
    return {
        "table": "families",
        "row": job.row,
        "dataset": job.dataset,
        "series": job.series,
        "vus_pr": vus_pr(labels, filled(scores), WINDOW),
        "auc_pr": auc_pr(labels, filled(scores)),
        "unscored": int(np.isnan(scores).sum()),
        "points": len(labels) * channels,
        "seconds": round(seconds, 2),
    }


def _scorer(row: str) -> Scorer:
    return FamilyScorer(FAMILIES[row], UniversalImputer.load()) if row in FAMILIES else build(row)


def jobs_of(data: Path, rows: list[str], every: int, most_rows: int) -> list[Job]:
    frame = pd.read_csv(data / PUBLISHED)
    train_rows = dict(zip(zip(frame["dataset"], frame["series"], strict=True), frame["train_rows"], strict=True))
    found = []
    for test in sorted(data.glob("*/*.test.parquet")):
        dataset, series = test.parent.name, test.name.removesuffix(".test.parquet")
        known = (dataset, series) in train_rows or test.with_name(f"{series}.train.parquet").exists()
        if known and labels_of(test).any():
            found.append((dataset, series, train_rows.get((dataset, series))))
    return [Job(row, *one, most_rows) for row in rows for one in found[::every]]


def show(results: Results, rows: list[str], keys: set[str]) -> dict[str, Any]:
    """The table of accuracy, that of cost, and both for the result file."""
    table = {row: [r for k, r in results.found.items() if k in keys and r["row"] == row] for row in rows}
    table = {row: found for row, found in table.items() if found}
    print_table(f"VUS-PR (window {WINDOW}), mean (number of series)", table)
    print(f"\n{'':20s}  passes a window  points/s  against imputation")
    reference = {(r["dataset"], r["series"]): r["vus_pr"] for r in table.get("imputation", [])}
    summary = {}
    for row, found in table.items():
        passes = FAMILIES[row].passes if row in FAMILIES else None
        speed = sum(r["points"] for r in found) / max(sum(r["seconds"] for r in found), 0.01)
        gains = [r["vus_pr"] - reference[r["dataset"], r["series"]] for r in found if reference]
        better = f"{np.mean(gains):+.3f}, better on {np.sum(np.array(gains) > 0)} of {len(gains)}" if gains else ""
        print(f"{row:20s}  {'-' if passes is None else format(passes, '.0f'):>15s}  {speed:8.0f}  {better}")
        summary[row] = {"vus_pr": float(np.mean([r["vus_pr"] for r in found])), "passes": passes, "points_per_s": speed}
    return summary


def main() -> None:
    parser = parser_of(__doc__, (*OTHERS, *FAMILIES))
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--most-rows", type=int, default=8000)
    arguments = parser.parse_args()
    rows = rows_of(parser, arguments.rows, (*OTHERS, *FAMILIES))
    about = environment([0], OTHERS) | {"measures": 1}
    about["scorers"] |= {row: _scorer(row).version for row in FAMILIES}
    print(json.dumps(about), flush=True)
    results = Results(arguments.out, about)
    jobs = jobs_of(arguments.data, rows, arguments.every, arguments.most_rows)
    run(jobs, measure, arguments.data, results, arguments.jobs)
    results.write(show(results, rows, {job.key for job in jobs}))


if __name__ == "__main__":
    main()
