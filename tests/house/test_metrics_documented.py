"""docs/metrics.md lists exactly the metrics of a scrape."""

from __future__ import annotations

import re

from stream_ad_connectors.host.clock import SystemClock

from stream_ad.observability.metrics import METRICS, Metrics
from stream_ad.observability.worker_health import WorkerHealth
from tests.support.paths import DOCS

PAGE = DOCS / "metrics.md"
SUFFIX = {"counter": "_total", "info": "_info"}


def test_every_metric_of_a_scrape_is_on_the_page() -> None:
    families = Metrics(WorkerHealth(SystemClock())).registry.collect()
    shown = {family.name + SUFFIX.get(family.type, "") for family in families}
    documented = set(re.findall(r"^\| `(\w+)` ", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown == documented


def test_no_label_holds_a_series_or_channel_name() -> None:
    labels = {label for measure in METRICS for label in measure.labels}
    assert labels <= {"topic", "partition", "stage", "part", "reason", "rule", "state", "route"}


def test_names_follow_the_conventions() -> None:
    for measure in METRICS:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", measure.name)
        assert measure.text.endswith(".")
