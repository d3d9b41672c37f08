"""Accuracy of the product's scorers on labelled public series, every row through the pipeline of `stream-ad backtest`.

    python benchmarks/accuracy.py --data DIR --out FILE.json [--seed S] [--jobs N] [--rows universal,memory] [--all]

Table 1: the series of DIR/tsb_ad_m_published.csv, their first `train_rows` rows fitted, all rows scored, VUS-PR with
the file's window, beside the published figures of its other columns. Table 2 (`--all`): every other labelled series of
DIR, fitted on its train file, VUS-PR with a window of 100. One setting for all; labels are read by the metric alone.
Results are kept in FILE.json as they come: a second call goes on where the first stopped (same weights and seed).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from harness import (
    DEFAULT_ROWS,
    KEYS,
    PUBLISHED,
    ROWS,
    Result,
    Results,
    Table,
    Task,
    case_of,
    environment,
    filled,
    labels_of,
    other_tasks,
    print_table,
    published_tasks,
    run,
    scores_of,
)

from stream_ad.metrics import auc_pr, vus_pr


def measure(task: Task, data: Path) -> Result:
    """Scores the series and compares with its labels."""
    labels = labels_of(case_of(task, data).test)
    started = time.perf_counter()
    scores = scores_of(task, data, len(labels))
    seconds = time.perf_counter() - started
    unscored = int(np.isnan(scores).sum())
    scores = filled(scores)
    return asdict(task) | {
        "vus_pr": vus_pr(labels, scores, task.window),
        "auc_pr": auc_pr(labels, scores),
        "rows": len(labels),
        "unscored": unscored,
        "seconds": round(seconds, 2),
    }


def published_rows(data: Path) -> Table:
    """The best single published method, and the best for each series, as rows of the table."""
    frame = pd.read_csv(data / PUBLISHED)
    methods = [column for column in frame.columns if column not in KEYS]
    best = str(frame[methods].mean().idxmax())
    columns = {f"published: {best}": frame[best], "published: best per series": frame[methods].max(axis=1)}
    return {
        name: [
            {"dataset": dataset, "series": series, "vus_pr": float(value)}
            for dataset, series, value in zip(frame["dataset"], frame["series"], values, strict=True)
        ]
        for name, values in columns.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", default=",".join(DEFAULT_ROWS), help=f"comma-separated, of {', '.join(ROWS)}")
    parser.add_argument("--all", action="store_true", help="also every other labelled series of the directory")
    arguments = parser.parse_args()
    rows = arguments.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"--rows: expected some of {','.join(ROWS)}, found {','.join(sorted(unknown))}")
    about = environment([arguments.seed])
    print(json.dumps(about), flush=True)
    results = Results(arguments.out, about)
    tasks = published_tasks(arguments.data, rows, arguments.seed)
    if arguments.all:
        tasks += other_tasks(arguments.data, rows, arguments.seed)
    run(tasks, measure, arguments.data, results, arguments.jobs)
    for r in results.table("published", rows).get("universal", []):
        print(f"{r['dataset']:6s} {r['series']:14s} {r['vus_pr']:.3f}")
    title = "VUS-PR, series of the published benchmark, mean (number of series)"
    print_table(title, results.table("published", rows) | published_rows(arguments.data))
    if others := results.table("others", rows):
        print_table("VUS-PR (window 100), the other labelled series", others)


if __name__ == "__main__":
    main()
