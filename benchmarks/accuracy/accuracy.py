"""Accuracy of the product's scorers on labelled public series, every row through the pipeline of `stream-ad backtest`.

    make bench-accuracy DATA=DIR ARGS="[--seeds 0,1] [--jobs N] [--rows universal,memory] [--all]"

Table 1: the series of DIR/tsb_ad_m_published.csv, their first `train_rows` rows fitted, all rows scored, VUS-PR with
the file's window, and the published figures of its other columns. With `--all`: table 2, every other labelled series
of DIR, fitted on its train file, VUS-PR with a window of 100; table 3, both together, by series and with equal
weights of data sets, and the first row against the better of the rows without a network, by series; and NAB's own
score over NAB's files. Each table is followed by the other metrics. Rows that depend on a seed are measured with each,
the others once. One setting for all; labels are read by metrics alone. Results are kept in FILE.json as they come: a
second call resumes where the first stopped (same metrics, and each scorer of the same version).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy.events import detect_at, point_adjusted_f1
from benchmarks.accuracy.harness import (
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
    parser_of,
    published_tasks,
    rows_of,
    run,
    scores_of,
    takes_seed,
)
from benchmarks.accuracy.nab import NULL, measure_nab, nab_tasks, print_nab
from benchmarks.accuracy.nab import summary as nab_summary
from benchmarks.accuracy.summaries import against, print_against, print_metrics, print_table, summary
from stream_ad.offline.accuracy import auc_pr, auc_roc, vus

METRICS = 2  # raised when results of earlier calls no longer hold what is measured
BUDGETS = (1, 3, 10)  # false-alarm episodes per 10,000 normal rows
NO_NETWORK = ("control", "memory")


def measure(task: Task, data: Path) -> Result:
    """Scores the series once and compares with its labels in every way."""
    labels = labels_of(case_of(task, data).test)
    started = time.perf_counter()
    scores = scores_of(task, data, len(labels))
    seconds = time.perf_counter() - started
    unscored = int(np.isnan(scores).sum())
    scores = filled(scores)
    pr, roc = vus(labels, scores, task.window)
    result = asdict(task) | {
        "vus_pr": pr,
        "vus_roc": roc,
        "auc_pr": auc_pr(labels, scores),
        "auc_roc": auc_roc(labels, scores),
        "pa_f1": point_adjusted_f1(labels, scores),
        "rows": len(labels),
        "unscored": unscored,
        "seconds": round(seconds, 2),
    }
    for budget in BUDGETS:
        found = detect_at(budget, labels, scores, task.window)
        result |= {"events": found.events, f"recall_{budget}": found.recall}
        result |= {f"missed_{budget}": found.missed, f"delay_{budget}": found.delay_rows}
    return result


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


def tables_of(results: Results, rows: Sequence[str]) -> dict[str, Table]:
    """Both tables, and `every`: they together, of rows that are in both."""
    first, others = results.table("published", rows), results.table("others", rows)
    found = {"published": first} | ({"others": others} if others else {})
    both = [row for row in rows if row in first and row in others]
    return found | ({"every": {row: first[row] + others[row] for row in both}} if both else {})


def conclude(results: Results, rows: Sequence[str], data: Path) -> None:
    """Prints the tables and keeps what they say in the file."""
    tables = tables_of(results, rows)
    titles = {
        "published": "series of the published benchmark",
        "others": "the other labelled series (window 100)",
        "every": "all series",
    }
    for name, table in tables.items():
        published = published_rows(data) if name == "published" else {}
        print_table(f"VUS-PR, {titles[name]}: means over series and data sets (number of series)", table | published)
        print_metrics(f"Other metrics, {titles[name]}: means; delays are medians, in rows", table)
    summaries: dict[str, Any] = {"tables": {name: summary(table) for name, table in tables.items()}}
    widest = tables.get("every", tables["published"])
    if rows[0] in widest and rows[0] not in NO_NETWORK and any(row in widest for row in NO_NETWORK):
        summaries["against_no_network"] = against(widest, rows[0], NO_NETWORK)
        title = f"VUS-PR of {rows[0]} less the better of {', '.join(NO_NETWORK)}: mean, 95% bootstrap interval"
        print_against(title, summaries["against_no_network"])
    summaries["nab"] = nab_summary(results.table("nab", [*rows, NULL]))
    print_nab(summaries["nab"])
    results.write(summaries)


def main() -> None:
    parser = parser_of(__doc__, DEFAULT_ROWS)
    parser.add_argument("--seeds", default="0,1,2", help="of rows that depend on one, comma-separated")
    parser.add_argument("--all", action="store_true", help="also every other labelled series of the directory, and NAB")
    arguments = parser.parse_args()
    rows = rows_of(parser, arguments.rows, ROWS)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    about = environment(seeds, rows) | {"measures": METRICS, "seeded": [row for row in rows if takes_seed(row)]}
    print(json.dumps(about), flush=True)
    results = Results(arguments.out, about)
    tasks: list[Task] = []
    for seed in seeds:
        mine = [row for row in rows if seed == seeds[0] or row in about["seeded"]]
        tasks += published_tasks(arguments.data, mine, seed)
        if arguments.all:
            tasks += other_tasks(arguments.data, mine, seed)
    corpora = nab_tasks(arguments.data, rows, seeds) if arguments.all else []
    run(tasks, measure, arguments.data, results, arguments.jobs)
    run(corpora, measure_nab, arguments.data, results, arguments.jobs, show="nab")
    conclude(results, rows, arguments.data)


if __name__ == "__main__":
    main()
