"""`backtest`: scores files with the code of the live pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, say, settings_of
from stream_ad.errors import StreamAdError

if TYPE_CHECKING:
    from stream_ad.offline.backtest import Case
    from stream_ad.ports import Scorer
    from stream_ad.settings import Settings

__all__ = ["command"]

_COLUMNS = ("dataset", "series", "rows", "scored_rows", "seconds", "alerts", "dead_letters")
_METRICS = ("vus_pr", "auc_pr")
_process: dict[str, Any] = {}  # settings and scorer, per process of the pool


def command(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Directory of <dataset>/<series>.test.parquet.")],
    out: Annotated[Path, typer.Option(help="Directory for the scores and summary.json.")],
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    series: Annotated[list[str] | None, typer.Option(help="Only this series; may be repeated.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="section.key=value; may be repeated.")
    ] = None,
    train_rows: Annotated[int | None, typer.Option(min=1, help="Fit on this many first rows of test.")] = None,
    train_rows_file: Annotated[
        Path | None,
        typer.Option(help="CSV of dataset, series, train_rows: the series to score and their --train-rows."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Fit on <series>.train.parquet, score every row of test as a worker would, write the scores and summary.json."""
    chosen = settings_of(context, settings or ())
    from stream_ad.offline.backtest import find_cases, summarize, train_rows_of

    rows_of = train_rows_of(train_rows_file) if train_rows_file else None
    cases = find_cases(data, dataset or (), series or (), train_rows, rows_of)
    rows: list[dict[str, Any]] = []
    for row in _results(cases, chosen, out, jobs):
        rows.append(row)
        say(f"{len(rows)}/{len(cases)} {row['dataset']}/{row['series']}: {_row_text(row)}")
    summary = summarize(rows, _about(chosen))
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if as_json:
        emit_json(summary)
    else:
        _show(rows, summary)
    failed = [row for row in rows if "error" in row]
    if failed:
        raise StreamAdError(
            f"{len(failed)} of {len(rows)} series failed, the first {failed[0]['series']!r}: {failed[0]['error']}"
        )


def _results(cases: Sequence[Case], settings: Settings, out: Path, jobs: int) -> Iterator[dict[str, Any]]:
    """One row of the summary per case, in order."""
    out.mkdir(parents=True, exist_ok=True)
    if jobs == 1 or len(cases) == 1:
        _prepare(settings)
        for case in cases:
            yield _run(case, out)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(
        min(jobs, len(cases)), multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(settings,)
    )
    with pool:
        yield from pool.map(_run, cases, [out] * len(cases))


def _prepare(settings: Settings) -> None:
    from stream_ad.wiring import build_scorer

    _process.update(settings=settings, scorer=build_scorer(settings))


def _run(case: Case, out: Path) -> dict[str, Any]:
    from stream_ad.offline.backtest import failed_row, score_case, summary_row, write_scored

    scorer: Scorer = _process["scorer"]
    begun = time.monotonic()
    try:
        scored = score_case(case, _process["settings"], scorer)
        seconds = time.monotonic() - begun
        write_scored(scored, out)
        return summary_row(scored, seconds)
    except StreamAdError as error:  # the run continues with the other series; the exit code reports the failure
        return failed_row(case, str(error))


def _about(settings: Settings) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "stream_ad": version("stream-ad"),
        "scorer": settings.detector.scorer,
        "detector": settings.detector.model_dump(mode="json"),
        "alerts": settings.alerts.model_dump(mode="json"),
    }


def _row_text(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"failed: {row['error']}"
    return f"{row['scored_rows']} of {row['rows']} rows, {row['alerts']} alerts, {row['seconds']:.1f} s"


def _show(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> None:
    metrics = [key for key in _METRICS if any(key in row for row in rows)]
    columns = [*_COLUMNS, *metrics]
    emit_table(columns, [[_cell(key, row.get(key)) for key in columns] for row in rows])
    means = ", ".join(f"mean {key} {summary['totals'][f'mean_{key}']:.4f}" for key in metrics)
    if means:
        print(means)


def _cell(key: str, value: object) -> object:
    if isinstance(value, float):
        return f"{value:.4f}" if key in _METRICS else f"{value:.1f}"
    return "-" if value is None else value
