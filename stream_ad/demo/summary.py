"""The end of the demo: the outcome of each fault, read from the store; a plot; commands to try next."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from stream_ad.demo.console import DemoView, clock_time, driving_channels, seconds_text
from stream_ad.demo.fault_report import FaultOutcome, Report, Verdict, make_report
from stream_ad.demo.plant import Plant
from stream_ad.ports import Scorer, ScoreReader
from stream_ad.records import Alert, ScoreBatch
from stream_ad.settings import Settings
from stream_ad.wiring import Store

__all__ = ["Run", "fault_row", "print_summary", "write_config"]

CONFIG = "stream-ad.toml"
PICTURE = "alert.png"
BEFORE_SLOTS, AFTER_SLOTS = 160, 80  # of the plot, around its alert
COLUMNS = ("series", "fault", "verdict", "after", "reported after", "peak", "alert names")
_STYLES = {Verdict.FOUND: "green", Verdict.MISSED: "red", Verdict.PENDING: "default"}


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run, live in [start_ns, stop_ns). waited_s: alert id -> wall seconds from its slot to its report."""

    settings: Settings
    out: Path
    scorer: Scorer
    plant: Plant
    store: Store
    machine: str
    start_ns: int
    stop_ns: int
    waited_s: Mapping[str, float]

    @property
    def step_ns(self) -> int:
        return round(self.plant.step_s * 1e9)

    @property
    def tolerance_steps(self) -> int:
        """The delay of the scorer: an alert this long after a fault may still belong to it."""
        return self.scorer.delay_steps + self.scorer.hop_steps


def print_summary(view: DemoView, run: Run) -> None:
    """Prints tables and commands and writes the plot, all from the scores and alerts in the store."""
    alerts = run.store.alerts.alerts(None, run.start_ns, run.stop_ns)
    report = _report(run, alerts)
    _print_faults(view, run, report)
    _print_machine(view, run, alerts)
    view.heading("on disk")
    found = [outcome.alert for outcome in report.outcomes if outcome.alert is not None]
    highest = max(found or alerts, key=lambda alert: alert.peak_score, default=None)
    if highest is None:
        view.say("  no alert, so no picture")
    else:
        _draw_alert(run.out / PICTURE, highest, run.store.scores, run.step_ns)
        view.say(f"  {run.out / PICTURE}  the alert of {highest.series} with the highest peak")
    view.say(f"  {run.settings.store.path}  scores, alerts and statuses")
    view.heading("try next")
    for line in _commands(run.out, run.plant.series[0] if highest is None else highest.series):
        view.say(f"  {line}", "cyan")


def _report(run: Run, alerts: Sequence[Alert]) -> Report:
    """The plant's faults against its alerts, as of the last slot that every plant series has a score for."""
    extents = [run.store.scores.score_extent(name, run.start_ns, run.stop_ns) for name in run.plant.series]
    return make_report(
        run.plant.faults,
        [alert for alert in alerts if alert.series in run.plant.series],
        start_ns=run.start_ns,
        step_ns=run.step_ns,
        until_ns=min(run.start_ns if extent is None else extent.last_ns for extent in extents),
        tolerance_steps=run.tolerance_steps,
    )


def _print_faults(view: DemoView, run: Run, report: Report) -> None:
    view.heading("the plant's faults")
    if report.outcomes:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in COLUMNS:
            table.add_column(name, overflow="fold", no_wrap=name != "fault")
        for outcome in report.outcomes:
            cells = [Text(cell) for cell in fault_row(outcome, run.waited_s)]
            cells[COLUMNS.index("verdict")].stylize(_STYLES[outcome.verdict])
            table.add_row(*cells)
        view.console.print(table)
    found, missed, pending = map(report.count, Verdict)
    future = len(run.plant.faults) - len(report.outcomes)
    rest = (f", {pending} not over yet" if pending else "") + (f", {future} not begun" if future else "")
    view.say(f"  found {found}, missed {missed}{rest}")
    view.say(
        f"  alerts: {report.true_alerts} on faults, {len(report.false_alarms)} false alarms "
        f"(target: at most {run.settings.detector.false_alarms} per series); "
        f"{seconds_text(report.outside_ns)} under alert outside the faults"
    )
    for alert in report.false_alarms:
        drivers = ", ".join(channel.channel for channel in driving_channels(alert))
        view.say(f"  false alarm  {alert.series}  {clock_time(alert.start_ns)}  peak {alert.peak_score:.1f}  {drivers}")
    correct = sum(outcome.named_correctly for outcome in report.outcomes)
    tolerance = f"{run.tolerance_steps} slots ({run.tolerance_steps * run.plant.step_s:.1f} s)"
    view.say(f"  {correct} of the {found} found name a faulty channel first")
    view.say("  after: from the first wrong reading to the slot that opened the alert (below 0: its window looks back)")
    view.say("  reported after: from the first wrong reading to the line above; a score waits for later readings")
    view.say(f"  found: an alert was open in the fault or began within {tolerance} after it, the delay of this scorer")


def fault_row(outcome: FaultOutcome, waited_s: Mapping[str, float]) -> tuple[str, ...]:
    """The cells of one fault under COLUMNS."""
    fault, alert = outcome.fault, outcome.alert
    if alert is None or outcome.delay_ns is None:
        return fault.series, fault.description, outcome.verdict.value, "", "", "", ""
    reported_s = outcome.delay_ns / 1e9 + waited_s.get(alert.id, float("nan"))
    return (
        fault.series,
        fault.description,
        outcome.verdict.value,
        seconds_text(outcome.delay_ns),
        "before it" if reported_s < 0 else f"{reported_s:.1f} s",
        f"{alert.peak_score:.1f}",
        f"{outcome.named or ''}{'' if outcome.named_correctly else ' (another)'}",
    )


def _print_machine(view: DemoView, run: Run, alerts: Sequence[Alert]) -> None:
    view.heading("this machine")
    status = next((status for status in run.store.statuses.statuses() if status.series == run.machine), None)
    if status is None:
        view.say(f"  {run.machine}: no reading yet")
        return
    extent = run.store.scores.score_extent(run.machine, run.start_ns, run.stop_ns)
    slots, own = 0 if extent is None else extent.slots, sum(alert.series == run.machine for alert in alerts)
    view.say(f"  {status.series}: {status.state}, {slots} slots scored, {own} alerts; {status.detail}")
    view.say(f"  {len(status.channels)} channels: {', '.join(status.channels)}")


def _draw_alert(path: Path, alert: Alert, scores: ScoreReader, step_ns: int) -> None:
    """A plot of one alert from stored scores alone."""
    from stream_ad.sdk.plots import plot_alert

    end_ns = alert.updated_ns if alert.end_ns is None else alert.end_ns
    batches = scores.scores(alert.series, alert.start_ns - BEFORE_SLOTS * step_ns, end_ns + AFTER_SLOTS * step_ns)
    batch = ScoreBatch.merge([each for each in batches if each.channels == batches[-1].channels])
    inside = (batch.event_time_ns >= alert.start_ns) & (batch.event_time_ns <= end_ns)
    plot_alert(
        path,
        title=f"{alert.series}: alert, peak score {alert.peak_score:.1f} ({alert.severity})",
        times_ns=batch.event_time_ns,
        values=batch.value,
        expected=batch.expected,
        lower=batch.lower,
        upper=batch.upper,
        score=batch.score,
        channels=batch.channels,
        span=(alert.start_ns, end_ns),
        attribution=np.mean(batch.attribution[inside], axis=0).tolist(),
    )


def write_config(out: Path, settings: Settings) -> None:
    """A config of the demo's store and of this machine's step; every other setting has its default."""
    machine = settings.subscription[-1]
    sections = (
        ("[store]", {"path": str(settings.store.path)}),
        ("[models]", {"url": settings.models.url}),
        ("[detector]", {"false_alarms": settings.detector.false_alarms}),
        ("[[subscription]]", {"topic": machine.topic, "step": machine.step}),
    )
    lines = ["# Written by `stream-ad demo`: reads what the demo stored."]
    for name, keys in sections:  # JSON strings are TOML basic strings
        lines += [name, *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()), ""]
    (out / CONFIG).write_text("\n".join(lines), encoding="utf-8")


def _commands(out: Path, series: str) -> list[str]:
    program, here = "stream-ad", Path.cwd()
    installed = Path(sys.executable).with_name(program)
    if shutil.which(program) is None and installed.exists():  # its environment is not activated
        program = shlex.quote(str(installed.relative_to(here) if installed.is_relative_to(here) else installed))
    start = f"{program} -c {shlex.quote(str(out / CONFIG))}"
    return [
        f"{start} scores {shlex.quote(series)} --start -1h --plot {shlex.quote(str(out / 'scores.png'))}",
        f"{start} alerts --series {shlex.quote(series)}",
        f"{start} status",
    ]
