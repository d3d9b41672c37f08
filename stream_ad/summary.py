"""What a backtest says of one series, and of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream_ad.backtest import Case, Scored
from stream_ad.metrics import auc_pr, vus_pr

__all__ = ["failed_row", "label_metrics", "summarize", "summary_row"]

VUS_WINDOW = 100


def label_metrics(scored: Scored) -> dict[str, float]:
    """Accuracy against the labels; empty where there are none. A row without a score counts as the most normal."""
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
