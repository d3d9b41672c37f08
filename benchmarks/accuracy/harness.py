"""What the accuracy benchmarks share: rows, tasks over labelled series, a resumable result file, a pool, tables.

A script defines a frozen dataclass with the fields of `Work` and a module-level function that measures one of them,
and passes both to `run`.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar
from zlib import crc32

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.lib.about import about, argument_parser
from stream_ad.errors import DataError
from stream_ad.offline.backtest import Case, score_case
from stream_ad.ports import Scorer
from stream_ad.settings import Settings
from stream_ad.wiring import SCORERS
from stream_ad.wiring.scorers import FAMILIES

Float64 = NDArray[np.float64]
Result = dict[str, Any]
Table = dict[str, list[Result]]

OTHER_WINDOW = 100
PUBLISHED = "tsb_ad_m_published.csv"
KEYS = ("tsb_file", "dataset", "series", "train_rows", "rows", "vus_window")


def _named(name: str, seed: int | None = None) -> Scorer:
    """A scorer that detector.scorer may name; the seed goes to those that take one."""
    scorer = SCORERS[name](Settings())
    kind: Callable[..., Scorer] = type(scorer)
    if seed is None or "seed" not in inspect.signature(kind).parameters:
        return scorer
    return kind(seed=seed)


def _delayed(delay_steps: int) -> Scorer:
    """The default with another delay."""
    from stream_ad_models.imputer.imputer import UniversalImputer
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    return ImputationScorer(UniversalImputer.load(), delay_steps=delay_steps)


def _without(part: str) -> Scorer:
    """The default less one of its parts."""
    from stream_ad_models.imputer.imputer import UniversalImputer
    from stream_ad_models.memory.features import FEATURE_SETS
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    imputer = None if part == "imputer" else UniversalImputer.load()
    feature_sets = [each for name, each in FEATURE_SETS.items() if name != part]
    return ImputationScorer(
        imputer,
        feature_sets=feature_sets,
        forecast=part != "forecast",
        binary_channels=part != "flags",
        online_memory=part != "growth",
    )


# None: random numbers. Those of SCORERS take a seed where the scorer does.
NEEDS_TRAINING = ("group",)
ROWS: dict[str, Callable[..., Scorer] | None] = {
    name: partial(_named, name) for name in SCORERS if name not in NEEDS_TRAINING
}
ROWS["random"] = None
DEFAULT_ROWS = tuple(row for row in ROWS if row not in FAMILIES)  # these have families.py
for _steps in (0, 16, 32, 64):
    ROWS[f"delay-{_steps}"] = partial(_delayed, _steps)
for _part in ("imputer", "forecast", "levels", "spectrum", "shape", "flags", "growth"):
    ROWS[f"without-{_part}"] = partial(_without, _part)


def build(row: str, seed: int = 0) -> Scorer:
    """The row's scorer. Errors: KeyError for a row that is not there, ValueError for the random one."""
    factory = ROWS[row]
    if factory is None:
        raise ValueError(f"expected a row with a scorer, found {row!r}")
    return factory(seed=seed) if "seed" in inspect.signature(factory).parameters else factory()


def takes_seed(row: str) -> bool:
    """Whether another seed gives another result; the others are measured once."""
    return ROWS[row] is None or "seed" in inspect.signature(type(build(row))).parameters


def parser_of(doc: str | None, rows: Sequence[str] = ()) -> argparse.ArgumentParser:
    """What every script here asks for; rows: those that --rows stands for when it is not given (none: no --rows)."""
    parser = argument_parser(doc)
    parser.add_argument("--data", type=Path, required=True, help="directory of labelled series")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    if rows:
        parser.add_argument("--rows", default=",".join(rows), help="comma-separated")
    return parser


def rows_of(parser: argparse.ArgumentParser, text: str, known: Iterable[str]) -> list[str]:
    """The names of a comma-separated list; ends the program when one of them is unknown."""
    names, every = text.split(","), list(known)
    if unknown := [name for name in names if name not in every]:
        parser.error(f"--rows: expected some of {','.join(every)}, found {','.join(unknown)}")
    return names


class Work(Protocol):
    """One measurement. key: its name in the result file; row: whose version makes an old result stale."""

    @property
    def key(self) -> str: ...
    @property
    def row(self) -> str: ...


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Task:
    """One series under one scorer. train_rows None: fit on the train file; window: of VUS, in rows."""

    table: str
    row: str
    dataset: str
    series: str
    train_rows: int | None
    window: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.table}/{self.row}/{self.seed}/{self.dataset}/{self.series}"


def case_of(task: Task, data: Path) -> Case:
    test = data / task.dataset / f"{task.series}.test.parquet"
    train = test.with_name(f"{task.series}.train.parquet")
    return Case(task.dataset, task.series, test, train if train.exists() else None, task.train_rows)


def labels_of(test: Path) -> NDArray[np.int64]:
    return pd.read_parquet(test, columns=["label"])["label"].to_numpy().astype(np.int64)


def random_scores(task: Work, seed: int, rows: int) -> Float64:
    return np.random.default_rng([seed, crc32(task.key.encode())]).random(rows)


def scores_of(task: Task, data: Path, rows: int) -> Float64:
    """[row], through the pipeline; NaN = no score."""
    import torch

    torch.set_num_threads(1)
    if ROWS[task.row] is None:
        return random_scores(task, task.seed, rows)
    return score_case(case_of(task, data), Settings(), build(task.row, task.seed)).score


def filled(scores: Float64) -> Float64:
    """Rows without a score count as the most normal ones."""
    missing = np.isnan(scores)
    return np.where(missing, 0.0 if missing.all() else np.nanmin(scores), scores)


def published_tasks(data: Path, rows: Sequence[str], seed: int) -> list[Task]:
    frame = pd.read_csv(data / PUBLISHED)
    return [
        Task("published", row, s["dataset"], s["series"], s["train_rows"], s["vus_window"], seed)
        for row in rows
        for s in frame.to_dict("records")
    ]


def other_tasks(data: Path, rows: Sequence[str], seed: int) -> list[Task]:
    """Every other series with a train file and at least one labelled row in test."""
    frame = pd.read_csv(data / PUBLISHED)
    taken = set(zip(frame["dataset"], frame["series"], strict=True))
    tasks = []
    for test in sorted(data.glob("*/*.test.parquet")):
        dataset, series = test.parent.name, test.name.removesuffix(".test.parquet")
        if (dataset, series) in taken or not test.with_name(f"{series}.train.parquet").exists():
            continue
        if labels_of(test).any():
            tasks += [Task("others", row, dataset, series, None, OTHER_WINDOW, seed) for row in rows]
    return sorted(tasks, key=lambda task: rows.index(task.row))


def environment(seeds: Sequence[int], rows: Iterable[str] = tuple(ROWS)) -> dict[str, Any]:
    packages = ("numpy", "torch", "pandas", "river", "scikit-learn", "scipy", "statsmodels")
    scorers = {row: build(row).version for row in rows if ROWS[row] is not None}
    return about(packages, seeds=list(seeds), scorers=scorers)


class Results:
    """What has been measured, in a JSON file from the first result on.

    about: `environment` and what else distinguishes results; `measures` (a number that a script raises when it measures
    something else) and each row's scorer version decide whether results of an earlier call are kept.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.about, self.found = path, dict(about), dict[str, Result]()
        if not path.exists():
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        old = before["environment"]
        if old.get("measures") == self.about.get("measures"):
            now, then = self.about["scorers"], old["scorers"]
            kept = {
                k: r
                for k, r in before["results"].items()
                if now.get(r["row"], then.get(r["row"])) == then.get(r["row"])
            }
            self.found = kept
            self.about["scorers"] = {row: then[row] for row in then if row not in now} | now

    def add(self, work: Work, result: Result) -> None:
        self.found[work.key] = result
        self.write()

    def write(self, summary: Mapping[str, Any] | None = None) -> None:
        """summary: what the script makes of the results, for readers."""
        about = {"environment": self.about} | ({"summary": dict(summary)} if summary else {})
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
        found = [f"{json.dumps(key)}: {json.dumps(result)}" for key, result in self.found.items()]
        lines.append('"results": {\n' + ",\n".join(found) + "\n}")
        draft = self.path.with_name(self.path.name + ".part")
        draft.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        draft.replace(self.path)

    def table(self, name: str, rows: Iterable[str]) -> Table:
        every = [r for r in self.found.values() if r["table"] == name]
        return {row: mine for row in rows if (mine := [r for r in every if r["row"] == row])}


def run(
    tasks: Sequence[AnyWork],
    measure: Callable[[AnyWork, Path], Result],
    data: Path,
    results: Results,
    jobs: int,
    show: str = "vus_pr",
) -> None:
    """Measures what `results` lacks; a result holds `row`, `table`, `seconds` and the figure that `show` names."""
    todo = [task for task in tasks if task.key not in results.found]
    # spawn: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, _progress(len(tasks), len(todo)) as report:
        waiting: dict[Future[Result], AnyWork] = {pool.submit(measure, task, data): task for task in todo}
        for done in as_completed(waiting):
            task = waiting[done]
            try:
                result = done.result()
            except DataError as error:
                report(f"{task.key}: left out: {error}")
                continue
            results.add(task, result)
            report(f"{task.key}: {result[show]:.3f} in {result['seconds']:.1f} s")


@contextmanager
def _progress(tasks: int, todo: int) -> Iterator[Callable[[str], None]]:
    """Reports each finished task: a bar on a terminal, numbered lines elsewhere."""
    console = Console()
    console.print(f"{tasks} to measure, {tasks - todo} of them done before", highlight=False)
    if not console.is_terminal:
        numbers = iter(range(1, todo + 1))
        yield lambda line: print(f"{next(numbers)}/{todo} {line}", flush=True)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        job = bar.add_task("", total=todo)
        yield lambda line: bar.update(job, advance=1, description=line)
