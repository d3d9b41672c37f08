"""The end of the demo: what became of the faults, read back from the store; a picture; the way on."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_ad.demo.console import DemoView, seconds_text
from stream_ad.demo.fault_report import FaultSpan, Report, Verdict, make_report
from stream_ad.demo.plant import Plant
from stream_ad.detection.emission import merge_batches
from stream_ad.ports import Scorer, ScoreReader
from stream_ad.records import Alert
from stream_ad.settings import Settings
from stream_ad.wiring import Store

__all__ = ["Run", "conclude", "draw_alert", "fault_spans", "report_of", "write_config"]

CONFIG = "stream-ad.toml"
PICTURE = "alert.png"
BEFORE_SLOTS, AFTER_SLOTS = 160, 80  # of the picture, around its alert


@dataclass(frozen=True, slots=True)
class Run:
    """What a demo was: live in [start_ns, stop_ns). told_s: alert id -> wall seconds from its slot to being told."""

    settings: Settings
    out: Path
    scorer: Scorer
    plant: Plant
    store: Store
    machine: str
    start_ns: int
    stop_ns: int
    told_s: Mapping[str, float]

    @property
    def step_ns(self) -> int:
        return round(self.plant.step_s * 1e9)

    @property
    def tolerance_slots(self) -> int:
        """How long after a fault's end an alert may still be counted as its own."""
        return self.scorer.delay_steps + self.scorer.hop_steps


def conclude(view: DemoView, run: Run) -> None:
    """Tables, picture and commands, all from what the store holds of the run."""
    alerts = run.store.alerts.alerts(None, run.start_ns, run.stop_ns)
    report = report_of(run, alerts)
    _tell_faults(view, run, report)
    _tell_machine(view, run, alerts)
    view.heading("on disk")
    chosen = _choose(report, alerts)
    if chosen is None:
        view.say("  no alert, so no picture")
    else:
        draw_alert(run.out / PICTURE, chosen, run.store.scores, run.step_ns)
        view.say(f"  {run.out / PICTURE}  the alert of {chosen.series} with the highest peak")
    view.say(f"  {run.settings.store.path}  scores, alerts and statuses")
    view.heading("go on with")
    view.commands(_commands(run.out, run.plant.series[0] if chosen is None else chosen.series))


def fault_spans(plant: Plant, start_ns: int) -> list[FaultSpan]:
    return [
        FaultSpan(
            fault.series,
            fault.kind.value,
            fault.channels,
            plant.time_ns(fault.start_slot, start_ns),
            plant.time_ns(fault.end_slot - 1, start_ns),
            fault.description,
        )
        for fault in plant.faults
    ]


def report_of(run: Run, alerts: Sequence[Alert]) -> Report:
    """The plant's faults against its alerts, as of the last slot that every plant series has a score for."""
    series = run.plant.series
    last = [
        int(batches[-1].event_time_ns[-1])
        for name in series
        if (batches := run.store.scores.scores(name, run.start_ns, run.stop_ns))
    ]
    return make_report(
        fault_spans(run.plant, run.start_ns),
        [alert for alert in alerts if alert.series in series],
        until_ns=min(last) if len(last) == len(series) else run.start_ns,
        step_ns=run.step_ns,
        tolerance_ns=run.tolerance_slots * run.step_ns,
    )


def _tell_faults(view: DemoView, run: Run, report: Report) -> None:
    total, slots = report.total, run.tolerance_slots
    view.heading("the plant's faults")
    if report.outcomes:
        view.faults(report, run.told_s)
    unreached = len(run.plant.faults) - len(report.outcomes)
    rest = (f", {total.pending} not over yet" if total.pending else "") + (
        f", {unreached} to come" if unreached else ""
    )
    view.say(f"  found {total.found}, missed {total.missed}{rest}")
    view.say(
        f"  alerts: {total.true_alerts} on faults, {total.false_alerts} false alarms "
        f"(asked: at most {run.settings.detector.false_alarms} per series); "
        f"{seconds_text(total.outside_ns)} under alert outside the faults"
    )
    view.false_alarms(report.false_alarms)
    right = sum(o.named_rightly for o in report.outcomes if o.verdict is Verdict.FOUND)
    view.say(f"  {right} of the {total.found} found name a channel at fault first")
    view.say(
        "  after: from the first wrong reading to the slot that opened the alert (below 0: its window reaches back)"
    )
    view.say("  told after: from the first wrong reading to the line above; a score waits for the readings after it")
    tolerance = f"{slots} slots ({slots * run.plant.step_s:.1f} s)"
    view.say(f"  found: an alert stood in the fault or began within {tolerance} after it, the delay of this scorer")


def _tell_machine(view: DemoView, run: Run, alerts: Sequence[Alert]) -> None:
    view.heading("this machine")
    status = next((status for status in run.store.statuses.statuses() if status.series == run.machine), None)
    if status is None:
        view.say(f"  {run.machine}: no reading yet")
        return
    slots = sum(map(len, run.store.scores.scores(run.machine, run.start_ns, run.stop_ns, detail=False)))
    view.series(status, slots, sum(alert.series == run.machine for alert in alerts))


def _choose(report: Report, alerts: Sequence[Alert]) -> Alert | None:
    """The highest peak among the alerts that found a fault, else among all."""
    found = [outcome.alert for outcome in report.outcomes if outcome.alert is not None]
    return max(found or alerts, key=lambda alert: alert.peak_score, default=None)


def draw_alert(path: Path, alert: Alert, scores: ScoreReader, step_ns: int) -> None:
    """A picture of one alert from stored scores alone."""
    from stream_ad.sdk.plots import plot_alert

    end_ns = alert.updated_ns if alert.end_ns is None else alert.end_ns
    batches = scores.scores(alert.series, alert.start_ns - BEFORE_SLOTS * step_ns, end_ns + AFTER_SLOTS * step_ns)
    batch = merge_batches([each for each in batches if each.channels == batches[-1].channels])
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
    """Where the demo left its things, and this machine's step; the rest is as it comes."""
    machine = settings.subscription[-1]
    lines = [
        "# Written by `stream-ad demo`: reads what the demo stored.",
        "[store]",
        f"path = {_quoted(str(settings.store.path))}",
        "",
        "[models]",
        f"url = {_quoted(settings.models.url)}",
        "",
        "[detector]",
        f"false_alarms = {_quoted(settings.detector.false_alarms)}",
        "",
        "[[subscription]]",
        f"topic = {_quoted(machine.topic)}",
        f"step = {_quoted(machine.step or '')}",
        "",
    ]
    (out / CONFIG).write_text("\n".join(lines), encoding="utf-8")


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _program() -> str:
    """`stream-ad`, or where it is when its environment is not activated."""
    beside = Path(sys.executable).with_name("stream-ad")
    if shutil.which("stream-ad") is not None or not beside.exists():
        return "stream-ad"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def _commands(out: Path, series: str) -> list[str]:
    start = f"{_program()} -c {shlex.quote(str(out / CONFIG))}"
    picture = shlex.quote(str(out / "scores.png"))
    return [
        f"{start} scores {shlex.quote(series)} --start -1h --plot {picture}",
        f"{start} alerts --series {shlex.quote(series)}",
        f"{start} status",
    ]
