"""The text of messages: state, series, times, severity, channels, model and link."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_ad.notifications.rendering import LISTED, TITLE_CHARS, compose
from stream_ad.records import Alert, AlertChannel, AlertState

S = 1_000_000_000
START_NS = 1_767_268_800 * S  # 2026-01-01T12:00:00Z
CHANNELS = (AlertChannel("flow", 0.2, 1.0, 2.0, 0.5, 3.0), AlertChannel("pressure", 0.8, 4.25, 3.0, 2.9, 3.1))


@pytest.fixture
def alert() -> Alert:
    return Alert(
        "a" * 24, "pump-1", "threshold", AlertState.OPEN, START_NS, START_NS - 30 * S, START_NS + 9 * S, None,
        START_NS + 9 * S, 2.5, START_NS + 5 * S, CHANNELS, "universal-7/fit-1",
    )  # fmt: skip


def test_a_message_has_all_facts_of_an_alert(alert: Alert) -> None:
    message = compose([alert], link_base="https://watch.example/ad/")
    assert message.kind == "failure"
    assert message.title == "critical: pump-1, pressure 4.25 for 3"
    for part in (
        "pump-1: critical, open",
        "since 2026-01-01T12:00:00Z, likely began 2026-01-01T11:59:30Z",
        "peak score 2.50 (1 = threshold) at 2026-01-01T12:00:05Z",
        "pressure: 4.25, expected 3 (2.9 to 3.1), 80% of it",
        "rule threshold, model universal-7/fit-1",
        f"https://watch.example/ad/alerts/{'a' * 24}",
    ):
        assert part in message.text
    assert message.text.index("pressure") < message.text.index("flow")


def test_a_resolved_alert_has_its_duration(alert: Alert) -> None:
    over = replace(alert, state=AlertState.RESOLVED, end_ns=START_NS + 600 * S, updated_ns=START_NS + 700 * S)
    message = compose([over])
    assert message.kind == "success"
    assert message.title == "resolved: pump-1 after 0:10:00"
    assert "until 2026-01-01T12:10:00Z (0:10:00)" in message.text
    assert "was critical" in message.text


def test_a_group_names_the_worst_first_and_counts_the_rest(alert: Alert) -> None:
    mild = [replace(alert, id=f"{n:024d}", series=f"fan-{n}", peak_score=1.2) for n in range(LISTED + 3)]
    message = compose([*mild, alert], suppressed=("the route was muted",), unlisted=5)
    assert message.title == f"{LISTED + 9} alerts, 1 critical, {LISTED + 3} warning: pump-1 and {LISTED + 3} more"
    assert message.text.startswith("held back: the route was muted\n\npump-1: critical")
    assert message.text.endswith("and 9 more: stream-ad alerts lists them")


def test_names_are_escaped_and_titles_are_cut(alert: Alert) -> None:
    message = compose([replace(alert, series="*bold* [a](http://b) <script>" + "x" * 300)])
    assert len(message.title) <= TITLE_CHARS
    assert "<script>" not in message.markdown
    assert r"\*bold\* \[a\](http://b)" in message.markdown
