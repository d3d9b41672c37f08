"""Backtest: scores labelled or unlabelled files with the code of the live pipeline, one score per row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.detection.profiles import fit_profile, history_on_grid
from stream_ad.durations import duration_ns
from stream_ad.errors import DataError
from stream_ad.offline.accuracy import auc_pr, vus_pr
from stream_ad.offline.join import nearest_slots
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Profile, Scorer
from stream_ad.records import Alert, Outputs, ScoreBatch, Table
from stream_ad.runtime.consumer_loop import ConsumerLoop
from stream_ad.settings import Settings, Subscription
from stream_ad.windowing.grid import infer_step_ns
from stream_ad.wiring import collect_sink, memory_profiles, open_clock, open_file_source, read_table, table_series

__all__ = [
    "Case",
    "Scored",
    "failed_row",
    "find_cases",
    "label_metrics",
    "score_case",
    "summarize",
    "summary_row",
    "train_rows_of",
    "write_scored",
]


TOPIC = "file"
START_NS = 0  # event time of row 0 of files without times
VUS_WINDOW = 100  # widest soft edge, in steps


@dataclass(frozen=True, slots=True)
class Case:
    """One series of a data directory. train_rows: fit on this many first rows of test instead of the train file."""

    dataset: str
    series: str
    test: Path
    train: Path | None
    train_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores by row. score: float64 [row], NaN = no score; attribution: float32 [row, channel]."""

    case: Case
    table: Table
    score: NDArray[np.float64]
    attribution: NDArray[np.float32]
    alert_id: NDArray[np.object_]
    alerts: tuple[Alert, ...]
    dead_letters: int


def find_cases(
    data: Path,
    datasets: Sequence[str] = (),
    series: Sequence[str] = (),
    train_rows: int | None = None,
    rows_of: dict[tuple[str, str], int] | None = None,
) -> list[Case]:
    """Cases of <data>/<dataset>/<series>.test.parquet; rows_of: train_rows by (dataset, series), only these."""
    cases = []
    for path in sorted(data.glob("*/*.test.parquet")):
        dataset, name = path.parent.name, table_series(path)
        if (datasets and dataset not in datasets) or (series and name not in series):
            continue
        if rows_of is not None and (dataset, name) not in rows_of:
            continue
        train = path.with_name(f"{name}.train.parquet")
        rows = rows_of[dataset, name] if rows_of is not None else train_rows
        cases.append(Case(dataset, name, path, train if train.exists() else None, rows))
    if not cases:
        wanted = ", ".join([*datasets, *series]) or "*"
        raise DataError(f"no series found in {data}: expected <dataset>/<series>.test.parquet for {wanted}")
    return cases


def train_rows_of(path: Path) -> dict[tuple[str, str], int]:
    """(dataset, series) -> train_rows from a CSV with these columns."""
    try:
        frame = pd.read_csv(path, usecols=["dataset", "series", "train_rows"])
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected columns dataset, series, train_rows: {error}") from error
    rows = zip(frame["dataset"], frame["series"], frame["train_rows"], strict=True)
    return {(str(dataset), str(series)): int(count) for dataset, series, count in rows}


def score_case(case: Case, settings: Settings, scorer: Scorer) -> Scored:
    """Fits the training part of a case and scores every row of its test part, as a worker would."""
    table = read_table(case.test, series=case.series)
    step_ns = _step_ns(table, settings)
    profile = _fit(case, table, step_ns, settings, scorer)
    subscription = Subscription(topic=TOPIC, step=f"{step_ns}ns", time_unit="ns")
    pipeline = Pipeline(settings.model_copy(update={"subscription": (subscription,)}), scorer, memory_profiles(profile))
    collector = collect_sink()
    source = open_file_source([table], start_ns=START_NS, step_ns=step_ns, time_format="ns", poll_rows=4096)
    asyncio.run(ConsumerLoop(source, pipeline, [collector], None, open_clock()).run())
    return _by_row(case, table, step_ns, collector.outputs)


def _step_ns(table: Table, settings: Settings) -> int:
    if table.times_ns is not None:
        inferred = infer_step_ns(table.times_ns.tolist())
        if inferred is not None:
            return inferred
    declared = next((s.step for s in settings.subscription if s.step), None)
    return duration_ns(declared or "1s")


def _fit(case: Case, table: Table, step_ns: int, settings: Settings, scorer: Scorer) -> Profile | None:
    """The profile of a case; None without a training part: the pipeline then fits one to the stream."""
    if case.train_rows is not None:
        times = None if table.times_ns is None else table.times_ns[: case.train_rows]
        values, channels = table.values[: case.train_rows], table.channels
    elif case.train is not None:
        train = read_table(case.train, series=case.series)
        times, values, channels = train.times_ns, train.values, train.channels
    else:
        return None
    if channels != table.channels:
        raise DataError(f"{case.series}: expected channels {table.channels} in the training part, found {channels}")
    history, _ = history_on_grid(times, values, step_ns, scorer.lookback_steps)
    capacity = settings.detector.memory_steps
    return fit_profile(scorer, case.series, channels, history, step_ns=step_ns, origin="fit", capacity=capacity)


def _by_row(case: Case, table: Table, step_ns: int, outputs: Outputs) -> Scored:
    rows = len(table)
    score = np.full(rows, np.nan)
    attribution = np.full((rows, len(table.channels)), np.nan, dtype=np.float32)
    alert_id = np.full(rows, "", dtype=object)
    if outputs.scores:
        newest = ScoreBatch.merge(outputs.scores)
        times = START_NS + step_ns * np.arange(rows, dtype=np.int64) if table.times_ns is None else table.times_ns
        found = nearest_slots(newest, times, step_ns)
        hit = found >= 0
        score[hit] = newest.score[found[hit]]
        alert_id[hit] = np.array(newest.alert_id, dtype=object)[found[hit]]
        for column, channel in enumerate(table.channels):
            if channel in newest.channels:
                attribution[hit, column] = newest.attribution[found[hit], newest.channels.index(channel)]
    alerts = tuple({alert.id: alert for alert in outputs.alerts}.values())
    return Scored(case, table, score, attribution, alert_id, alerts, len(outputs.dead_letters))


def write_scored(scored: Scored, out: Path) -> Path:
    """<out>/<dataset>/<series>.scores.parquet: timestamp or row, score, attribution.<channel>, alert_id."""
    table = scored.table
    times = table.times_ns
    first = {"row": np.arange(len(table))} if times is None else {"timestamp": times // 1_000_000}
    columns = {f"attribution.{c}": scored.attribution[:, i] for i, c in enumerate(table.channels)}
    frame = pd.DataFrame({**first, "score": scored.score, **columns, "alert_id": scored.alert_id})
    path = out / scored.case.dataset / f"{scored.case.series}.scores.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, compression="zstd", index=False)
    return path


def label_metrics(scored: Scored) -> dict[str, float]:
    """Accuracy against the labels; empty without labels. A row without a score counts as the most normal."""
    labels = scored.table.labels
    if labels is None or not labels.any() or labels.all():
        return {}
    truth = (labels != 0).astype(np.int8)
    score = np.nan_to_num(scored.score, nan=0.0)
    return {
        "vus_pr": float(vus_pr(truth, score, VUS_WINDOW)),
        "auc_pr": float(auc_pr(truth, score)),
    }


def summary_row(scored: Scored, seconds: float) -> dict[str, Any]:
    """One series of summary.json."""
    return {
        "dataset": scored.case.dataset,
        "series": scored.case.series,
        "rows": len(scored.table),
        "channels": len(scored.table.channels),
        "scored_rows": int(np.isfinite(scored.score).sum()),
        "seconds": round(seconds, 3),
        "alerts": len(scored.alerts),
        "dead_letters": scored.dead_letters,
        **label_metrics(scored),
    }


def failed_row(case: Case, error: str) -> dict[str, Any]:
    """A series that could not be scored."""
    return {"dataset": case.dataset, "series": case.series, "error": error}


def summarize(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """summary.json: `about` (settings, scorer), totals, mean metrics over the series that have them, the series."""
    done = [row for row in rows if "error" not in row]
    totals: dict[str, Any] = {"series": len(rows), "failed": len(rows) - len(done)}
    for key in ("rows", "scored_rows", "seconds", "alerts", "dead_letters"):
        totals[key] = round(sum(row[key] for row in done), 3)
    for key in ("vus_pr", "auc_pr"):
        values = [row[key] for row in done if key in row]
        if values:
            totals[f"mean_{key}"] = float(np.mean(values))
    return {**about, "totals": totals, "series": list(rows)}
