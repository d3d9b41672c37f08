"""What the demo prints: alerts as they come, one status line, and the tables at the end.

On a terminal the status line stays at the bottom; elsewhere it is a plain line every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream_ad.demo.fault_report import FaultOutcome, Report, Verdict
from stream_ad.records import Alert, AlertChannel, AlertState, SeriesStatus

__all__ = ["DemoView", "clock_time", "seconds_text"]

PLAIN_WIDTH = 150
PLAIN_STATUS_S = 10.0
TOP_CHANNELS = 3
LEAST_SHARE = 0.1  # channels with less of the score than this are not named
_STYLES = {"normal": "default", "warning": "yellow", "critical": "bold red"}
_WORDS = {
    AlertState.OPEN: "ALERT",
    AlertState.UPDATE: "grows",
    AlertState.RESOLVED: "over ",
    AlertState.WITHDRAWN: "taken back",
}
_VERDICT_STYLES = {Verdict.FOUND: "green", Verdict.MISSED: "red", Verdict.PENDING: "default"}


class DemoView:
    """Prints to one console; use it as a context manager around the live part, so that the status line goes away."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        if not self.console.is_terminal:
            self.console = Console(file=self.console.file, width=PLAIN_WIDTH, no_color=True)
        self._live: Live | None = None
        self._status_s = 0.0

    def __enter__(self) -> DemoView:
        if self.console.is_terminal:
            self._live = Live(Text(""), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str = "", style: str = "") -> None:
        """One line as it is, however long: a command that was printed must survive being copied."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def heading(self, text: str) -> None:
        self.say()
        self.say(text, "bold")

    def alert(self, alert: Alert, waited_s: float) -> None:
        """One line for an opening, an update or an end. waited_s: from the slot that opened it to being told."""
        line = Text(f"{clock_time(alert.updated_ns)}  ", style=_STYLES[alert.severity])
        line.append(f"{_WORDS[alert.state]}  ")
        line.append(f"{alert.series}  ", style="bold")
        if alert.state is AlertState.RESOLVED:
            line.stylize("dim")
            end_ns = alert.start_ns if alert.end_ns is None else alert.end_ns
            line.append(f"lasted {seconds_text(end_ns - alert.start_ns)}, peak {alert.peak_score:.1f}: ")
        else:
            line.append(f"score {alert.peak_score:.1f} {alert.severity}: ")
        line.append("; ".join(_channel_text(channel) for channel in _drivers(alert)))
        if alert.state is AlertState.OPEN:
            line.append(f"  (told {waited_s:.1f} s after the reading)", style="dim")
        self.console.print(line, soft_wrap=True)

    def status(self, now_s: float, left_s: float, slots: int, alerts: int, machine: str) -> None:
        """The one status line. now_s: any monotonic clock, for the pace of the plain lines."""
        text = f"{max(left_s, 0.0):4.0f} s to go  {slots} slots scored  {alerts} alerts  {machine}"
        if self._live is not None:
            self._live.update(Text(text, style="cyan"))
        elif now_s - self._status_s >= PLAIN_STATUS_S:
            self._status_s = now_s
            self.say(f"  ... {text}")

    def faults(self, report: Report, told_s: Mapping[str, float]) -> None:
        """The plant's faults and what became of each. told_s: alert id -> wall seconds from reading to being told."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in ("series", "fault", "verdict", "after", "told after", "peak", "alert names"):
            table.add_column(name, overflow="fold", no_wrap=name != "fault")
        for outcome, row in zip(report.outcomes, report.table(), strict=True):
            after, told = _delays(outcome, told_s)
            table.add_row(
                Text(outcome.fault.series),
                Text(outcome.fault.description),
                Text(outcome.verdict.value, style=_VERDICT_STYLES[outcome.verdict]),
                *(Text(cell) for cell in (after, told, *row[-2:])),
            )
        self.console.print(table)

    def false_alarms(self, alerts: Iterable[Alert]) -> None:
        """Every alert that met no fault, or that there was none."""
        for alert in alerts:
            drivers = ", ".join(channel.channel for channel in _drivers(alert))
            self.say(
                f"  false alarm  {alert.series}  {clock_time(alert.start_ns)}  peak {alert.peak_score:.1f}  {drivers}"
            )

    def series(self, status: SeriesStatus, slots: int, alerts: int) -> None:
        """How far a series is, in one line."""
        self.say(f"  {status.series}: {status.state}, {slots} slots scored, {alerts} alerts; {status.detail}")
        self.say(f"  {len(status.channels)} channels: {', '.join(status.channels)}")

    def commands(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(f"  {line}", "cyan")


def clock_time(time_ns: int) -> str:
    """Time of day in UTC, to a tenth of a second."""
    at = datetime.fromtimestamp(time_ns / 1e9, UTC)
    return f"{at:%H:%M:%S}.{at.microsecond // 100_000}"


def seconds_text(ns: int) -> str:
    return f"{ns / 1e9:.1f} s"


def _delays(outcome: FaultOutcome, told_s: Mapping[str, float]) -> tuple[str, str]:
    if outcome.alert is None or outcome.delay_ns is None:
        return "", ""
    told = outcome.delay_ns / 1e9 + told_s.get(outcome.alert.id, float("nan"))
    return seconds_text(outcome.delay_ns), "stood before" if told < 0 else f"{told:.1f} s"


def _drivers(alert: Alert) -> list[AlertChannel]:
    """The channels that drive an alert; at least one, when it names any."""
    top = [channel for channel in alert.channels[:TOP_CHANNELS] if channel.attribution >= LEAST_SHARE]
    return top or list(alert.channels[:1])


def _channel_text(channel: AlertChannel) -> str:
    actual = "missing" if channel.actual is None else f"{channel.actual:.4g}"
    return f"{channel.channel} {actual}, expected {channel.expected:.4g} ({channel.lower:.4g} to {channel.upper:.4g})"
