"""The accuracy benchmarks' harness: resumes, measures once, gives data sets equal weights, reports no F1 alone."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy import accuracy, harness, nab, summaries
from benchmarks.accuracy.nab_score import NabFile
from stream_ad.errors import DataError
from stream_ad.offline.accuracy import vus

TASK = harness.Task("published", "random", "A", "one", 100, 10, 0)


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool without new processes."""
    monkeypatch.setattr(harness, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs))


def write(folder: Path, series: str, rows: int, events: list[tuple[int, int]], train: int = 0, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = np.sin(np.arange(train + rows) / 5) + 0.1 * np.random.default_rng(seed).standard_normal(train + rows)
    frame = pd.DataFrame({"value": values.astype(np.float32)})
    frame["label"] = np.zeros(len(frame), np.int8)
    for first, last in events:
        frame.loc[train + first : train + last, ["value", "label"]] = [3.0, 1]
    frame["label"] = frame["label"].astype(np.int8)
    if train:
        frame.iloc[:train].drop(columns="label").to_parquet(folder / f"{series}.train.parquet")
    frame.iloc[train:].to_parquet(folder / f"{series}.test.parquet")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write(folder / "A", "one", 900, [(600, 640)])
    write(folder / "A", "two", 500, [(300, 310), (400, 405)], train=300)
    write(folder / "B", "three", 500, [(200, 230)], train=300)
    write(folder / "B", "unlabelled", 500, [], train=300)
    write(folder / "B", "no-train", 500, [(200, 230)])
    write(folder / "NAB", "four", 850, [(300, 380)], train=150)
    published = {"tsb_file": "x", "dataset": "A", "series": "one", "train_rows": 500, "rows": 900, "vus_window": 20}
    pd.DataFrame([published | {"method": 0.4, "other": 0.3}]).to_csv(folder / harness.PUBLISHED, index=False)
    return folder


class Counting:
    """Measures nothing, and counts how often."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, task: Any, data: Path) -> dict[str, Any]:
        self.keys.append(task.key)
        if task.series == "bad":
            raise DataError("too short")
        return {"row": task.row, "table": task.table, "vus_pr": 0.5, "seconds": 0.1}


def about(measures: int = 1, **scorers: str) -> dict[str, Any]:
    return {"measures": measures, "scorers": scorers}


def test_a_second_call_resumes_where_the_first_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, count = tmp_path / "out.json", Counting()
    tasks = [replace(TASK, row=row, series=series) for row in ("ar", "pca") for series in ("one", "bad")]
    harness.run(tasks, count, tmp_path, harness.Results(path, about(ar="1", pca="1")), 1)
    assert "too short" in capsys.readouterr().out
    assert len(count.keys) == 4
    count.keys.clear()
    harness.run(tasks, count, tmp_path, harness.Results(path, about(ar="1", pca="1")), 1)
    assert {key.split("/")[-1] for key in count.keys} == {"bad"}  # what was left out is tried again
    count.keys.clear()
    harness.run(
        [t for t in tasks if t.series != "bad"], count, tmp_path, harness.Results(path, about(ar="1", pca="2")), 1
    )
    assert count.keys == ["published/pca/0/A/one"]
    assert harness.Results(path, about(measures=2, ar="1", pca="2")).found == {}


def test_results_of_rows_that_are_not_asked_for_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    harness.Results(path, about(ar="1")).add(replace(TASK, row="ar"), {"row": "ar", "table": "published"})
    harness.Results(path, about(pca="1")).add(replace(TASK, row="pca"), {"row": "pca", "table": "published"})
    assert json.loads(path.read_text())["environment"]["scorers"] == {"ar": "1", "pca": "1"}
    assert {r["row"] for r in harness.Results(path, about(pca="1")).found.values()} == {"ar", "pca"}


def test_tasks_are_every_labelled_series_once(data: Path) -> None:
    def names(tasks: list[Any]) -> list[tuple[Any, ...]]:
        return [(t.row, t.dataset, t.series, t.train_rows, t.window) for t in tasks]

    assert names(harness.published_tasks(data, ["ar"], 0)) == [("ar", "A", "one", 500, 20)]
    others = [("A", "two"), ("B", "three"), ("NAB", "four")]
    expected = [(row, *series, None, 100) for row in ("pca", "ar") for series in others]
    assert names(harness.other_tasks(data, ["pca", "ar"], 0)) == expected


def test_random_scores_are_the_seed_s(data: Path) -> None:
    first, again = (harness.scores_of(TASK, data, 50) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, harness.scores_of(replace(TASK, seed=1), data, 50))
    assert harness.takes_seed("random")
    assert not harness.takes_seed("control")


def test_a_seed_goes_to_scorers_that_take_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dice:
        def __init__(self, seed: int = 0) -> None:
            self.seed = seed

    monkeypatch.setitem(harness.ROWS, "dice", partial(harness._named, "dice"))
    monkeypatch.setattr(harness, "SCORERS", {**harness.SCORERS, "dice": lambda settings: Dice()})
    assert harness.takes_seed("dice")
    assert [harness.build("dice", seed).seed for seed in (0, 7)] == [0, 7]
    assert harness.build("control", 7).version == harness.build("control", 0).version


def test_rows_without_a_score_are_the_most_normal_ones() -> None:
    assert harness.filled(np.array([np.nan, 2.0, 1.0])).tolist() == [1.0, 2.0, 1.0]
    assert harness.filled(np.array([np.nan])).tolist() == [0.0]


def test_one_scoring_gives_every_metric(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []

    def scores_of(task: Any, folder: Path, rows: int) -> Any:
        scored.append(harness.scores_of(task, folder, rows))
        return scored[-1]

    monkeypatch.setattr(accuracy, "scores_of", scores_of)
    task = harness.Task("others", "control", "A", "two", None, 100, 0)
    result = accuracy.measure(task, data)
    labels = harness.labels_of(data / "A" / "two.test.parquet")
    assert len(scored) == 1
    assert (result["vus_pr"], result["vus_roc"]) == vus(labels, harness.filled(scored[0]), 100)
    assert result["vus_pr"] > 0.5
    assert (result["events"], result["missed_10"], result["recall_10"]) == (2, 0, 1.0)


def result(row: str, dataset: str, series: str, value: float | None, seed: int = 0) -> dict[str, Any]:
    return {"table": "t", "row": row, "dataset": dataset, "series": series, "seed": seed, "vus_pr": value, "pa_f1": 0.9}


def test_means_over_seeds_series_and_data_sets() -> None:
    values = {("A", "1"): (0.1, 0.3), ("A", "2"): (0.4, 0.4), ("B", "3"): (0.9, 1.0)}
    results = [result("x", *series, v, seed) for series, each in values.items() for seed, v in enumerate(each)]
    found = summaries.summary({"x": results})["x"]
    assert found["series"] == 3
    assert found["vus_pr"] == pytest.approx((0.2 + 0.4 + 0.95) / 3)
    assert found["by_dataset"] == pytest.approx({"A": 0.3, "B": 0.95})
    assert found["vus_pr_sets"] == pytest.approx(0.625)
    assert found["vus_pr_spread"] == pytest.approx(np.std([1.4 / 3, 1.7 / 3], ddof=1))
    assert summaries.summary({"x": [result("x", "A", "1", 0.5)]})["x"]["vus_pr_spread"] is None


def test_a_paired_interval_is_that_of_differences() -> None:
    rng = np.random.default_rng(0)
    keys = [("t", "A", str(i)) for i in range(40)] + [("t", "B", "x")]
    second = {key: float(rng.random()) for key in keys}
    noise = rng.standard_normal(40) * 0.1
    first = {key: second[key] + 0.2 + shift for key, shift in zip(keys, [*noise, 0.0], strict=True)}
    found = summaries.paired_interval(first, second | {("t", "C", "only here"): 1.0})
    assert set(found) == {"series", "sets", "A", "B"}
    assert found["B"] == pytest.approx({"difference": 0.2, "low": 0.2, "high": 0.2, "series": 1})
    assert found["A"]["difference"] == pytest.approx(0.2 + noise.mean())
    error = 1.96 * noise.std() / np.sqrt(40)  # what the interval's half would be of normal means
    assert found["A"]["high"] - found["A"]["low"] == pytest.approx(2 * error, rel=0.1)
    assert found["sets"]["high"] - found["sets"]["low"] == pytest.approx(error, rel=0.1)  # B has no spread
    assert found["series"]["difference"] == pytest.approx((40 * found["A"]["difference"] + 0.2) / 41)
    with pytest.raises(ValueError, match="found none"):
        summaries.paired_interval(first, {})


def test_the_best_of_the_others_is_chosen_for_each_figure() -> None:
    table = {
        row: [result(row, "A", "1", a), result(row, "B", "2", b)]
        for row, (a, b) in {"mine": (0.9, 0.5), "x": (0.8, 0.1), "y": (0.2, 0.4)}.items()
    }
    found = summaries.against(table, "mine", ["x", "y", "absent"])
    assert {figure: d["best"] for figure, d in found.items()} == {"series": "x", "sets": "x", "A": "x", "B": "y"}
    assert found["B"]["difference"] == pytest.approx(0.1)


def test_point_adjusted_f1_is_reported_only_with_that_of_random(capsys: pytest.CaptureFixture[str]) -> None:
    table = {"ar": [result("ar", "A", "1", 0.5)]}
    summaries.print_metrics("", table)
    assert "pa_f1" not in capsys.readouterr().out
    summaries.print_metrics("", table | {"random": [result("random", "A", "1", 0.1)]})
    assert "pa_f1" in capsys.readouterr().out


def test_nab_files_are_whole_and_scores_count_at_their_emission(data: Path) -> None:
    test = data / "NAB" / "four.test.parquet"
    file = nab._file(nab.NabTask("random", 0), data, test)
    assert (len(file.scores), file.skipped, list(file.windows)) == (1000, 150, [(450, 530)])
    assert np.isnan(file.scores[:150]).all()
    later = nab._later(NabFile(np.arange(5.0), [(1, 2)]), 2)
    assert later.scores[2:].tolist() == [0, 1, 2]
    assert np.isnan(later.scores[:2]).all()
    null = nab.measure_nab(nab.NabTask("null", 0), data)
    assert (null["nab"], null["nab_alerts"], null["nab_told"], null["nab_at"]["found"]) == (0, 0, 0, 0)
    control = nab.measure_nab(nab.NabTask("control", 0), data)
    assert control["nab_alerts"] > control["nab_told"] > 0
    assert control["lag_rows"] == harness.build("control").delay_steps + harness.build("control").hop_steps - 1


def test_the_script_from_end_to_end(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    call = [
        "accuracy.py",
        "--data",
        str(data),
        "--out",
        str(out),
        "--rows",
        "random,control",
        "--seeds",
        "3,4",
        "--all",
    ]
    monkeypatch.setattr(sys, "argv", call)
    accuracy.main()
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    measured = [r for r in content["results"].values() if r["table"] != "nab"]
    seeds = {row: {r["seed"] for r in measured if r["row"] == row} for row in ("control", "random")}
    assert seeds == {"control": {3}, "random": {3, 4}}  # the same for every seed: measured once
    every = content["summary"]["tables"]["every"]
    assert every["control"]["series"] == every["random"]["series"] == 4
    assert every["control"]["vus_pr_spread"] is None
    assert every["random"]["vus_pr_spread"] > 0
    assert content["summary"]["against_no_network"]["series"]["best"] == "control"
    assert content["summary"]["nab"]["null"]["nab"] == 0
    assert "published: method" in printed
    assert "12 to measure, 0 of them done before" in printed
    accuracy.main()
    assert "12 to measure, 12 of them done before" in capsys.readouterr().out


def test_an_unknown_row_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--data", "x", "--out", "y", "--rows", "nosuch"])
    with pytest.raises(SystemExit):
        accuracy.main()
    assert "found nosuch" in capsys.readouterr().err
