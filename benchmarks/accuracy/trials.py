"""What benchmarks on changed data share: frames written for a moment, scored as `stream-ad backtest` scores files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.harness import (
    ROWS,
    Results,
    Task,
    environment,
    other_tasks,
    parser_of,
    published_tasks,
    rows_of,
)
from stream_ad.detection.calibration import Calibration
from stream_ad.offline.backtest import Case, Scored, score_case
from stream_ad.ports import Fitted, ScoredSlots, Scorer, Session, Window
from stream_ad.settings import Settings

Any_ = TypeVar("Any_")
NOT_CHANNELS = ("timestamp", "label")
MOST_FITTED = 8000


@dataclass(frozen=True)
class Trial:
    """One series under one scorer, all its changes."""

    table: str
    row: str
    seed: int
    task: Task

    @property
    def key(self) -> str:
        return f"{self.row}/{self.seed}/{self.task.dataset}/{self.task.series}"


class FittedOnce:
    """ports.Scorer that fits the same history once, so that many changes of one test part cost one fit."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._history: NDArray[np.float32] | None = None
        self._fitted: Fitted | None = None

    @property
    def name(self) -> str:
        return self._scorer.name

    @property
    def version(self) -> str:
        return self._scorer.version

    @property
    def window_steps(self) -> int:
        return self._scorer.window_steps

    @property
    def hop_steps(self) -> int:
        return self._scorer.hop_steps

    @property
    def delay_steps(self) -> int:
        return self._scorer.delay_steps

    @property
    def lookback_steps(self) -> int:
        return self._scorer.lookback_steps

    def fit(self, history: NDArray[np.float32]) -> Fitted:
        if self._fitted is None or not np.array_equal(history, np.asarray(self._history), equal_nan=True):
            self._history, self._fitted = history.copy(), self._scorer.fit(history)
        # Copies: a session may continue to learn in place.
        return replace(self._fitted, arrays={name: each.copy() for name, each in self._fitted.arrays.items()})

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> Session:
        return self._scorer.open(arrays)

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        return self._scorer.score(batch)

    def held_out_q99(self, step_s: float) -> float:
        """The 99% quantile of the last fit's held-out scores, in the units of the pipeline's scores."""
        if self._fitted is None:
            raise ValueError("expected a fit before its held-out quantile is read")
        held_out = self._fitted.held_out
        threshold = Calibration.fit(held_out, step_s, Settings().false_alarms_per_s).threshold
        return float(np.quantile(held_out, 0.99)) / threshold


def channels_of(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.columns if name not in NOT_CHANNELS]


def readings(frame: pd.DataFrame) -> NDArray[np.float32]:
    """float32 [row, channel]"""
    return frame[channels_of(frame)].to_numpy(np.float32)


def with_readings(frame: pd.DataFrame, values: NDArray[np.float32]) -> pd.DataFrame:
    return frame.assign(**dict(zip(channels_of(frame), values.T, strict=True)))


def opened(doc: str | None, rows: Sequence[str], measures: int) -> tuple[argparse.Namespace, list[str], Results]:
    """What was asked for, the rows of it and where the results go; says where it runs. rows: those of no --rows."""
    parser = parser_of(doc, rows)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    asked = rows_of(parser, arguments.rows, (row for row, scorer in ROWS.items() if scorer is not None))
    about = environment([arguments.seed], asked) | {"measures": measures}
    print(json.dumps(about), flush=True)
    return arguments, asked, Results(arguments.out, about)


def score_frames(train: pd.DataFrame | None, test: pd.DataFrame, scorer: Scorer, dataset: str, series: str) -> Scored:
    """One score a row of `test`, fitted on `train` (None: the stream fills its own profile)."""
    import torch

    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        paths = Path(folder) / f"{series}.train.parquet", Path(folder) / f"{series}.test.parquet"
        for path, frame in zip(paths, (train, test), strict=True):
            if frame is not None:
                frame.drop(columns="label", errors="ignore").to_parquet(path, index=False)
        case = Case(dataset, series, paths[1], None if train is None else paths[0])
        return score_case(case, Settings(), scorer)


@dataclass(frozen=True)
class Split:
    """One labelled series: what is fitted, and what is scored with its labels int64 [row]; `window` of VUS in rows."""

    train: pd.DataFrame
    test: pd.DataFrame
    labels: NDArray[np.int64]
    window: int


def split_of(task: Task, data: Path, most_rows: int) -> Split:
    """The first `train_rows` rows of the test file are fitted where the task has them, else the train file (of both
    the last 8,000); of the rows after these, `most_rows` are scored."""
    test = pd.read_parquet(data / task.dataset / f"{task.series}.test.parquet")
    if task.train_rows is None:
        train = pd.read_parquet(data / task.dataset / f"{task.series}.train.parquet")
    else:
        train, test = test.iloc[: task.train_rows], test.iloc[task.train_rows :]
    train, test = train.iloc[-MOST_FITTED:], test.iloc[:most_rows]
    labels = test["label"].to_numpy().astype(np.int64)
    return Split(train.drop(columns="label", errors="ignore"), test.drop(columns="label"), labels, task.window)


def few_of_each(data: Path, most_series: int, most_rows: int) -> list[Task]:
    """Labelled series, so many of each data set at most, evenly spaced among those whose scored rows hold an anomaly;
    the row of the tasks is empty."""
    tasks = published_tasks(data, [""], 0) + other_tasks(data, [""], 0)
    fit = [task for task in tasks if split_of(task, data, most_rows).labels.any()]
    datasets = sorted({task.dataset for task in fit})
    return [task for d in datasets for task in evenly([task for task in fit if task.dataset == d], most_series)]


def evenly(items: Sequence[Any_], most: int) -> list[Any_]:
    """At most so many of them, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[int(at)] for at in (np.arange(most) * len(items)) // most]


def interval(differences: Sequence[float], seed: int, draws: int = 10_000) -> tuple[float, float]:
    """95% bootstrap interval of the mean of paired differences, series drawn with replacement."""
    values = np.asarray(differences, np.float64)
    means = values[np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
