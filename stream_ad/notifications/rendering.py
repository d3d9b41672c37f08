"""Renders the message about alerts: state, series, times, severity, channels, model and link."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from stream_ad.records import SILENT_RULE, Alert, AlertChannel, AlertState, Notification
from stream_ad.timestamps import describe_span, iso_utc

__all__ = ["compose", "example"]

LISTED = 10  # alerts described in one message
TITLE_CHARS = 80
_NAME_CHARS = 32
_CHANNELS = 3
_SECOND_NS = 1_000_000_000
_MARKS = re.compile(r"([\\`*_\[\]|~]|^[#>+=-]|(?<=^\d)[.)])")
_WORST_FIRST = ("critical", "warning", "silent", "resolved", "withdrawn")


def compose(
    alerts: Sequence[Alert], *, link_base: str | None = None, suppressed: Sequence[str] = (), unlisted: int = 0
) -> Notification:
    """One message about one or more alerts, each in its newest state, the worst first.

    suppressed: reasons why the message is late. unlisted: number of further events, which are only counted. ValueError
    without an alert.
    """
    if not alerts:
        raise ValueError("expected at least one alert, found none")
    ordered = sorted(alerts, key=lambda alert: _WORST_FIRST.index(_word(alert)))
    number = len(alerts) + unlisted
    title = _title(ordered[0]) if number == 1 else _group_title(ordered, number)
    head = [f"held back: {', '.join(suppressed)}"] if suppressed else []
    more = number - min(len(ordered), LISTED)
    tail = [f"and {more} more: stream-ad alerts lists them"] if more else []
    parts = [(_heading(alert), _facts(alert), _link(alert, link_base)) for alert in ordered[:LISTED]]
    text = [*head, *(_text(*part) for part in parts), *tail]
    markdown = [*map(_escaped, head), *(_markdown(*part) for part in parts), *map(_escaped, tail)]
    return Notification(title, "\n\n".join(text), "\n\n".join(markdown), _kind(ordered))


def example(now_ns: int) -> Alert:
    """A fictitious alert, to test a route with."""
    start_ns = now_ns // _SECOND_NS * _SECOND_NS
    channels = (AlertChannel("pressure", 1.0, 4.2, 3.0, 2.9, 3.1),)
    return Alert(
        "0" * 24, "example (a test, no alert)", "threshold", AlertState.OPEN, start_ns, start_ns, start_ns, None,
        start_ns, 1.5, start_ns, channels, "none",
    )  # fmt: skip


def _word(alert: Alert) -> str:
    """The alert's state or severity in one word."""
    if alert.state is AlertState.WITHDRAWN:
        return "withdrawn"
    return "resolved" if alert.state is AlertState.RESOLVED else alert.severity


def _kind(ordered: Sequence[Alert]) -> Literal["info", "success", "warning", "failure"]:
    word = _word(ordered[0])
    return "failure" if word == "critical" else "warning" if word in ("warning", "silent") else "success"


# ---- the title


def _title(alert: Alert) -> str:
    name = _cut(alert.series, _NAME_CHARS)
    return _cut(f"{_word(alert)}: {name}{_what(alert)}", TITLE_CHARS)


def _what(alert: Alert) -> str:
    if alert.state is AlertState.RESOLVED:
        over = " sends again" if alert.rule == SILENT_RULE else ""
        return f"{over} after {_lasted(alert)}"
    if alert.state is AlertState.WITHDRAWN:
        return ""
    if alert.rule == SILENT_RULE:
        return f" since {_time(alert.start_ns)[11:]}"
    top = _top(alert)[:1]
    return "".join(f", {_cut(c.channel, _NAME_CHARS)} {_number(c.actual)} for {_number(c.expected)}" for c in top)


def _group_title(ordered: Sequence[Alert], number: int) -> str:
    count = Counter(map(_word, ordered))
    words = ", ".join(f"{count[word]} {word}" for word in _WORST_FIRST if count[word])
    series = list(dict.fromkeys(_cut(alert.series, _NAME_CHARS) for alert in ordered))
    named = series[0] if len(series) == 1 else f"{series[0]} and {len(series) - 1} more"
    return _cut(f"{number} alerts, {words}: {named}", TITLE_CHARS)


# ---- one alert


def _heading(alert: Alert) -> str:
    state = {AlertState.OPEN: ", open", AlertState.UPDATE: ", ongoing"}.get(alert.state, "")
    return f"{alert.series}: {_word(alert)}{state}"


def _facts(alert: Alert) -> list[str]:
    silent = alert.rule == SILENT_RULE
    facts = [_since(alert)]
    if alert.state is AlertState.WITHDRAWN:
        return [*facts, "provisional alert of a silent series; the readings that arrived since contradict it"]
    if silent:
        facts.append("no reading since then" if alert.end_ns is None else "readings are back")
    else:
        worst = f", was {alert.severity}" if alert.state is AlertState.RESOLVED else ""
        facts.append(f"peak score {alert.peak_score:.2f} (1 = threshold{worst}) at {_time(alert.peak_ns)}")
    facts += [_channel(channel) for channel in _top(alert)[:_CHANNELS]]
    return [*facts, f"rule {alert.rule}, model {alert.model_version}"]


def _since(alert: Alert) -> str:
    since = f"since {_time(alert.start_ns)}"
    if alert.likely_start_ns < alert.start_ns:
        since += f", likely began {_time(alert.likely_start_ns)}"
    if alert.state is AlertState.RESOLVED and alert.end_ns is not None:
        since += f", until {_time(alert.end_ns)} ({_lasted(alert)})"
    return since


def _channel(channel: AlertChannel) -> str:
    found = "no reading" if channel.actual is None else _number(channel.actual)
    band = f"{_number(channel.lower)} to {_number(channel.upper)}"
    return f"{channel.channel}: {found}, expected {_number(channel.expected)} ({band}), {channel.attribution:.0%} of it"


def _top(alert: Alert) -> list[AlertChannel]:
    return sorted(alert.channels, key=lambda channel: -channel.attribution)


def _link(alert: Alert, base: str | None) -> str:
    return "" if base is None else f"{base.rstrip('/')}/alerts/{alert.id}"


def _text(heading: str, facts: Sequence[str], link: str) -> str:
    return "\n".join([heading, *facts, *([link] if link else [])])


def _markdown(heading: str, facts: Sequence[str], link: str) -> str:
    lines = [f"**{_escaped(heading)}**", "", *(f"- {_escaped(fact)}" for fact in facts)]
    return "\n".join([*lines, *([f"- [details]({link})"] if link else [])])


# ---- words and numbers


def _escaped(text: str) -> str:
    """Names appear literally, whatever characters they contain."""
    return _MARKS.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _time(time_ns: int) -> str:
    """To the second."""
    return iso_utc(time_ns, 0)


def _lasted(alert: Alert) -> str:
    return describe_span(((alert.end_ns or alert.updated_ns) - alert.start_ns) // _SECOND_NS * _SECOND_NS)
