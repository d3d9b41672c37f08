"""Output of the demo while it is live: alerts as they arrive, and one status line.

On a terminal the status line stays at the bottom; elsewhere it is a plain line every few seconds.
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from stream_ad.records import Alert, AlertChannel, AlertState
from stream_ad.timestamps import iso_utc

__all__ = ["DemoView", "clock_time", "driving_channels", "seconds_text"]

PLAIN_WIDTH = 150
PLAIN_STATUS_S = 10.0
TOP_CHANNELS = 3
MIN_ATTRIBUTION = 0.1  # channels below are not named
_STYLES = {"normal": "default", "warning": "yellow", "critical": "bold red"}
_WORDS = {
    AlertState.OPEN: "ALERT",
    AlertState.UPDATE: "update",
    AlertState.RESOLVED: "end",
    AlertState.WITHDRAWN: "withdrawn",
}


class DemoView:
    """Prints to one console; a context manager around the live part, which removes the status line."""

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
        """Prints one line without wrapping, so that a printed command can be copied."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def heading(self, text: str) -> None:
        self.say()
        self.say(text, "bold")

    def alert(self, alert: Alert, waited_s: float) -> None:
        """One line for an opening, an update or an end. waited_s: from the slot that opened it to this line."""
        line = Text(f"{clock_time(alert.updated_ns)}  ", style=_STYLES[alert.severity])
        line.append(f"{_WORDS[alert.state]:<6}  ")
        line.append(f"{alert.series}  ", style="bold")
        if alert.state is AlertState.RESOLVED:
            line.stylize("dim")
            end_ns = alert.start_ns if alert.end_ns is None else alert.end_ns
            line.append(f"lasted {seconds_text(end_ns - alert.start_ns)}, peak {alert.peak_score:.1f}: ")
        else:
            line.append(f"score {alert.peak_score:.1f} {alert.severity}: ")
        line.append("; ".join(_channel_text(channel) for channel in driving_channels(alert)))
        if alert.state is AlertState.OPEN:
            line.append(f"  (reported {waited_s:.1f} s after the reading)", style="dim")
        self.console.print(line, soft_wrap=True)

    def status(self, now_s: float, left_s: float, slots: int, alerts: int, machine: str) -> None:
        """Updates the status line. now_s: a monotonic clock, for the interval of the plain lines."""
        text = f"{max(left_s, 0.0):4.0f} s left  {slots} slots scored  {alerts} alerts  {machine}"
        if self._live is not None:
            self._live.update(Text(text, style="cyan"))
        elif now_s - self._status_s >= PLAIN_STATUS_S:
            self._status_s = now_s
            self.say(f"  ... {text}")


def clock_time(time_ns: int) -> str:
    """Time of day in UTC, to a tenth of a second."""
    return iso_utc(time_ns, 1)[11:-1]


def seconds_text(ns: int) -> str:
    return f"{ns / 1e9:.1f} s"


def driving_channels(alert: Alert) -> list[AlertChannel]:
    """The channels with the largest attributions; at least one, if the alert names any."""
    top = [channel for channel in alert.channels[:TOP_CHANNELS] if channel.attribution >= MIN_ATTRIBUTION]
    return top or list(alert.channels[:1])


def _channel_text(channel: AlertChannel) -> str:
    actual = "missing" if channel.actual is None else f"{channel.actual:.4g}"
    return f"{channel.channel} {actual}, expected {channel.expected:.4g} ({channel.lower:.4g} to {channel.upper:.4g})"
