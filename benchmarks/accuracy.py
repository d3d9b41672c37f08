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
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zlib import crc32

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.backtest import Case, score_case
from stream_ad.errors import DataError
from stream_ad.metrics import auc_pr, vus_pr
from stream_ad.ports import Scorer
from stream_ad.settings import Settings
from stream_ad.wiring import SCORERS

OTHER_WINDOW = 100
PUBLISHED = "tsb_ad_m_published.csv"
KEYS = ("tsb_file", "dataset", "series", "train_rows", "rows", "vus_window")


def _universal(delay_steps: int | None = None) -> Scorer:
    """The default, or with another delay; the imputer then sees as much of it as it does by default, if it can."""
    from stream_ad_models.imputer import UniversalImputer
    from stream_ad_models.scorers import ImputationScorer

    imputer = UniversalImputer.load()
    if delay_steps is None:
        return ImputationScorer(imputer)
    return ImputationScorer(imputer, delay_steps=delay_steps, context_steps=min(delay_steps, 16))


def _memory() -> Scorer:
    from stream_ad_models.scorers import MemoryScorer

    return MemoryScorer()


def _control() -> Scorer:
    from stream_ad_models.control import ControlScorer

    return ControlScorer()


def _ar() -> Scorer:
    from stream_ad_models.ar import ArScorer

    return ArScorer()


def _baseline(name: str) -> Scorer:
    """Any other scorer that detector.scorer may name."""
    return SCORERS[name](Settings())


ROWS: dict[str, Callable[[], Scorer] | None] = {
    "universal": _universal,
    "memory": _memory,
    "control": _control,
    "ar": _ar,
    "pca": partial(_baseline, "pca"),
    "kmeans": partial(_baseline, "kmeans"),
    "iforest": partial(_baseline, "iforest"),
    "hst": partial(_baseline, "hst"),
    "random": None,
}
DEFAULT_ROWS = tuple(ROWS)
for _steps in (0, 16, 48, 64):
    ROWS[f"universal-delay-{_steps}"] = partial(_universal, _steps)


@dataclass(frozen=True)
class Task:
    """One series under one scorer. train_rows None: fit on the train file."""

    table: str
    row: str
    dataset: str
    series: str
    train_rows: int | None
    window: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.table}/{self.row}/{self.dataset}/{self.series}"


def measure(task: Task, data: Path) -> dict[str, Any]:
    """Scores the series and compares with its labels."""
    import torch

    torch.set_num_threads(1)
    test = data / task.dataset / f"{task.series}.test.parquet"
    labels = pd.read_parquet(test, columns=["label"])["label"].to_numpy()
    started = time.perf_counter()
    scores = _scores(task, test, len(labels))
    seconds = time.perf_counter() - started
    missing = np.isnan(scores)
    scores = np.where(missing, np.nanmin(scores) if not missing.all() else 0.0, scores)
    return asdict(task) | {
        "vus_pr": vus_pr(labels, scores, task.window),
        "auc_pr": auc_pr(labels, scores),
        "rows": len(labels),
        "unscored": int(missing.sum()),
        "seconds": round(seconds, 2),
    }


def _scores(task: Task, test: Path, rows: int) -> NDArray[np.float64]:
    make = ROWS[task.row]
    if make is None:
        return np.random.default_rng([task.seed, crc32(task.key.encode())]).random(rows)
    train = test.with_name(f"{task.series}.train.parquet")
    case = Case(task.dataset, task.series, test, train if train.exists() else None, task.train_rows)
    return score_case(case, Settings(), make()).score


def published_tasks(data: Path, rows: Sequence[str], seed: int) -> list[Task]:
    frame = pd.read_csv(data / PUBLISHED)
    return [
        Task("published", row, s["dataset"], s["series"], s["train_rows"], s["vus_window"], seed)
        for row in rows
        for s in frame.to_dict("records")
    ]


def other_tasks(data: Path, rows: Sequence[str], seed: int) -> list[Task]:
    frame = pd.read_csv(data / PUBLISHED)
    taken = set(zip(frame["dataset"], frame["series"], strict=True))
    tasks = []
    for test in sorted(data.glob("*/*.test.parquet")):
        dataset, series = test.parent.name, test.name.removesuffix(".test.parquet")
        train = test.with_name(f"{series}.train.parquet")
        if (dataset, series) in taken or not train.exists():
            continue
        if pd.read_parquet(test, columns=["label"])["label"].any():
            tasks += [Task("others", row, dataset, series, None, OTHER_WINDOW, seed) for row in rows]
    return sorted(tasks, key=lambda task: rows.index(task.row))


def published_rows(data: Path) -> dict[str, list[dict[str, Any]]]:
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


def print_table(title: str, table: dict[str, list[dict[str, Any]]]) -> None:
    """Mean VUS-PR of each row: over all series, and by data set."""
    datasets = sorted({r["dataset"] for results in table.values() for r in results})
    width = max(map(len, table), default=0)
    print(f"\n{title}\n{'':{width}s}   all  " + "  ".join(f"{name[:11]:>11s}" for name in datasets))
    for name, results in table.items():
        by = {d: [r["vus_pr"] for r in results if r["dataset"] == d] for d in datasets}
        cells = [f"{np.mean(v):.3f} ({len(v):2d})" if v else "-" for v in by.values()]
        mean = np.mean([r["vus_pr"] for r in results])
        print(f"{name:{width}s}  {mean:.3f} " + "  ".join(f"{cell:>11s}" for cell in cells), flush=True)


def environment(seed: int) -> dict[str, Any]:
    packages = ("numpy", "torch", "pandas", "river", "scikit-learn", "scipy", "statsmodels")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "seed": seed,
        "scorers": {name: make().version for name, make in ROWS.items() if make is not None},
    }


class Results:
    """What has been measured, in a JSON file from the first result on."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about, self.found = path, about, dict[str, dict[str, Any]]()
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            old = before["environment"]
            same = {row for row in ROWS if old["scorers"].get(row) == about["scorers"].get(row)}
            if old["seed"] == about["seed"]:
                self.found = {key: result for key, result in before["results"].items() if result["row"] in same}

    def add(self, task: Task, result: dict[str, Any]) -> None:
        self.found[task.key] = result
        draft = self.path.with_name(self.path.name + ".part")
        draft.write_text(json.dumps({"environment": self.about, "results": self.found}, indent=1), encoding="utf-8")
        draft.replace(self.path)

    def table(self, name: str, rows: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        every = [r for r in self.found.values() if r["table"] == name]
        return {row: mine for row in rows if (mine := [r for r in every if r["row"] == row])}


def run(tasks: Sequence[Task], data: Path, results: Results, jobs: int) -> None:
    todo = [task for task in tasks if task.key not in results.found]
    print(f"{len(tasks)} series to score, {len(tasks) - len(todo)} of them done before", flush=True)
    # spawn: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(measure, task, data): task for task in todo}
        for number, done in enumerate(as_completed(waiting), start=1):
            task = waiting[done]
            try:
                result = done.result()
            except DataError as error:
                print(f"{number}/{len(todo)} {task.key}: left out: {error}", flush=True)
                continue
            results.add(task, result)
            print(f"{number}/{len(todo)} {task.key}: {result['vus_pr']:.3f} in {result['seconds']:.1f} s", flush=True)


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
    about = environment(arguments.seed)
    print(json.dumps(about), flush=True)
    results = Results(arguments.out, about)
    tasks = published_tasks(arguments.data, rows, arguments.seed)
    if arguments.all:
        tasks += other_tasks(arguments.data, rows, arguments.seed)
    run(tasks, arguments.data, results, arguments.jobs)
    for r in results.table("published", rows).get("universal", []):
        print(f"{r['dataset']:6s} {r['series']:14s} {r['vus_pr']:.3f}")
    title = "VUS-PR, series of the published benchmark, mean (number of series)"
    print_table(title, results.table("published", rows) | published_rows(arguments.data))
    if others := results.table("others", rows):
        print_table("VUS-PR (window 100), the other labelled series", others)


if __name__ == "__main__":
    main()
