"""The demo: a simulated plant and this machine's own metrics through the worker's pipeline, without any service.

Two inputs, one `ConsumerLoop`, one embedded store: what differs from a worker is the wiring. The plant is fitted on
its past
first; the machine is a new series that fills its memory as it goes. The plant's faults are known to the report alone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stream_ad.demo.console import DemoView
from stream_ad.demo.plant import Plant
from stream_ad.demo.summary import Run, conclude, write_config
from stream_ad.detection.profiles import fit_profile
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Clock, ProfileStore, PushSource, Scorer
from stream_ad.records import AlertState, Observation, Outputs
from stream_ad.runtime.consumer_loop import ConsumerLoop
from stream_ad.settings import (
    InfluxSettings,
    KafkaSettings,
    ModelSettings,
    Settings,
    StoreSettings,
    Subscription,
)
from stream_ad.wiring import (
    MACHINE_TOPIC,
    Store,
    build_scorer,
    merge_sources,
    open_bus,
    open_clock,
    open_host_source,
    open_profiles,
    open_sinks,
    open_store,
)

__all__ = ["demo_settings", "run_demo"]

PLANT_TOPIC = "bus"
PLANT_STEP_S = 0.05  # fast, so that a minute holds a plant's shift
MACHINE_STEP_S = 0.25
PAST_SLOTS = 20_000
FAULTS_PER_SERIES = 4
SLOTS_PER_FAULT = 250  # at least, so that normal stretches lie between them; a short run has one fault a series
FALSE_ALARMS = "1 per 10min"  # a third of one in a run of 75 s over three series
STATUS_S = 0.5

Sleep = Callable[[float], Awaitable[None]]


def run_demo(
    *,
    seconds: float = 75,
    out: Path = Path("demo_out"),
    seed: int = 7,
    settings: Settings | None = None,
    scorer: Scorer | None = None,
    clock: Clock | None = None,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Fits, runs live for `seconds`, reports. Ctrl-C ends it early: what was scored is stored and reported.

    clock, sleep: the time it lives by; scorer: instead of the one that the settings name.
    """
    view = DemoView()
    try:
        _run(
            view,
            demo_settings(out, settings),
            plan_plant(seed, seconds),
            out=out,
            scorer=scorer,
            clock=clock or open_clock(),
            sleep=sleep,
        )
    except KeyboardInterrupt:
        view.say(f"stopped; what was scored before is in {out}")


def demo_settings(out: Path, settings: Settings | None = None) -> Settings:
    """`settings` as embedded settings of the demo: its own store, models and subscriptions, all under `out`."""
    base = settings or Settings()
    detector = base.detector
    if "false_alarms" not in detector.model_fields_set:
        detector = detector.model_copy(update={"false_alarms": FALSE_ALARMS})
    plant = Subscription(topic=PLANT_TOPIC, step=f"{round(PLANT_STEP_S * 1000)}ms")
    machine = Subscription(topic=MACHINE_TOPIC, step=f"{round(MACHINE_STEP_S * 1000)}ms")
    where = out.resolve()
    return base.model_copy(
        update={
            "kafka": KafkaSettings(),
            "influxdb": InfluxSettings(),
            "subscription": (plant, machine),
            "store": StoreSettings(path=where / "store.db"),
            "models": ModelSettings(url=str(where / "models")),
            "detector": detector,
        }
    )


def plan_plant(seed: int, seconds: float) -> Plant:
    """The plant with as many faults as `seconds` have room for."""
    slots = max(1, round(seconds / PLANT_STEP_S))
    room = int(0.88 * slots)  # the schedule leaves the first 6-12 % without a fault
    faults = min(FAULTS_PER_SERIES, max(int(room > 62), room // SLOTS_PER_FAULT))
    return Plant.live(seed, slots, faults, step_s=PLANT_STEP_S, past_slots=PAST_SLOTS)


def _run(
    view: DemoView,
    settings: Settings,
    plant: Plant,
    *,
    out: Path,
    scorer: Scorer | None,
    clock: Clock,
    sleep: Sleep,
) -> None:
    began_s = clock.monotonic_s()
    _introduce(view, plant, settings)
    out.mkdir(parents=True, exist_ok=True)
    write_config(out, settings)
    if scorer is None:
        scorer = build_scorer(settings)
        view.say(f"  model {scorer.name} {scorer.version} loaded in {clock.monotonic_s() - began_s:.1f} s")
    profiles = open_profiles(settings)
    for series in plant.series:
        _fit_past(view, plant, series, scorer=scorer, profiles=profiles, clock=clock)
    store = open_store(settings)
    try:
        live = _Live(view, plant, Pipeline(settings, scorer, profiles), store, clock, sleep, began_s)
        asyncio.run(live.run())
        conclude(
            view,
            Run(settings, out, scorer, plant, store, live.machine, live.start_ns, live.stop_ns, live.told_s),
        )
    finally:
        store.sink.close()


def _introduce(view: DemoView, plant: Plant, settings: Settings) -> None:
    per_series = len(plant.faults) // len(plant.series)
    view.heading("stream-ad demo: simulated plant and this machine, no service, no network")
    view.say(
        f"  plant    {len(plant.series)} series, a reading every {PLANT_STEP_S * 1000:.0f} ms for "
        f"{plant.live_slots * PLANT_STEP_S:.0f} s, {per_series} faults each (seed {plant.seed})"
    )
    view.say(f"  machine  its own metrics every {MACHINE_STEP_S * 1000:.0f} ms, a new series without history")
    view.say(f"  alerts   threshold set for {settings.detector.false_alarms} false alarms per series, without labels")
    view.heading("fitting")


def _fit_past(
    view: DemoView, plant: Plant, series: str, *, scorer: Scorer, profiles: ProfileStore, clock: Clock
) -> None:
    """The promoted profile of a plant series, from the slots before it went live."""
    began_s = clock.monotonic_s()
    profile = fit_profile(
        scorer,
        series,
        plant.channels(series),
        plant.rows(series, -plant.past_slots, plant.past_slots).astype(np.float32),
        step_ns=round(plant.step_s * 1e9),
        origin="fit",
        capacity=plant.past_slots,
    )
    profiles.save(profile, promote=True)
    took_s = clock.monotonic_s() - began_s
    view.say(f"  {series}: {profile.slots} past slots x {len(profile.channels)} channels in {took_s:.1f} s")


@dataclass
class _Live:
    """The live part. told_s: alert id -> seconds from the slot that opened it until it was told."""

    view: DemoView
    plant: Plant
    pipeline: Pipeline
    store: Store
    clock: Clock
    sleep: Sleep
    began_s: float
    machine: str = ""
    start_ns: int = 0
    stop_ns: int = 0
    told_s: dict[str, float] = field(default_factory=dict)
    _start_s: float = 0.0
    _slots: int = 0

    async def run(self) -> None:
        """Until the plant has told its last slot, or the task is cancelled: then at once, with all that waits told."""
        bus = open_bus(self.clock)
        machine = open_host_source(MACHINE_STEP_S, clock=self.clock, sleep=self.sleep)
        self.machine = socket.gethostname()
        sinks = list(open_sinks(self.pipeline.settings, self.store).values())
        source = merge_sources(bus, machine)
        ingest = ConsumerLoop(source, self.pipeline, sinks, None, self.clock, on_outputs=self._show)
        step_ns = round(self.plant.step_s * 1e9)
        self.start_ns = (self.clock.now_ns() // step_ns + 1) * step_ns
        self._start_s = self.clock.monotonic_s()
        self.view.heading("live (UTC; Ctrl-C ends it with a report of what there is)")
        with self.view:
            running = asyncio.create_task(ingest.run())
            helpers = [asyncio.create_task(self._feed(bus)), asyncio.create_task(self._tick(running))]
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                self.view.say("stopping: the slots that wait are scored with what is there")
                helpers[0].cancel()  # which closes the bus, which ends the ingest
                await running
            finally:
                end_ns = self.plant.time_ns(self.plant.live_slots, self.start_ns)
                self.stop_ns = max(self.clock.now_ns() + 1, end_ns)  # whatever was done to the wall clock
                for helper in helpers:
                    helper.cancel()
        for helper in helpers:
            with suppress(asyncio.CancelledError):
                await helper

    async def _feed(self, bus: PushSource) -> None:
        """Publishes every slot at its time; when late, all that are due at once, none left out."""
        step_s = self.plant.step_s
        rows = {series: self.plant.rows(series, 0, self.plant.live_slots) for series in self.plant.series}
        try:
            for slot in range(self.plant.live_slots):
                early_s = self._start_s + slot * step_s - self.clock.monotonic_s()
                if early_s > 0:
                    await self.sleep(early_s)
                time_ns = self.plant.time_ns(slot, self.start_ns)
                due = [
                    Observation(
                        series, time_ns, dict(zip(self.plant.channels(series), values[slot].tolist(), strict=True))
                    )
                    for series, values in rows.items()
                ]
                await asyncio.to_thread(_publish, bus, due)
        finally:
            bus.close()

    async def _tick(self, running: asyncio.Task[None]) -> None:
        """The status line."""
        while not running.done():
            await asyncio.sleep(STATUS_S)
            now_s = self.clock.monotonic_s()
            left_s = self._start_s + self.plant.live_slots * self.plant.step_s - now_s
            machine = next((s for s in self.pipeline.statuses() if s.series == self.machine), None)
            text = "" if machine is None else f"{self.machine}: {machine.detail}"
            self.view.status(now_s, left_s, self._slots, len(self.told_s), text)

    def _show(self, outputs: Outputs) -> None:
        """Everything here is in the store already."""
        self._slots += sum(len(batch) for batch in outputs.scores)
        now_ns = self.clock.now_ns()
        for alert in outputs.alerts:
            first = not self.told_s
            if alert.state is AlertState.OPEN:
                self.told_s.setdefault(alert.id, (now_ns - alert.detected_ns) / 1e9)
            self.view.alert(alert, self.told_s.get(alert.id, 0.0))
            if first and self.told_s:
                self.view.say(
                    f"  (the first alert, {self.clock.monotonic_s() - self.began_s:.0f} s after the start)", "dim"
                )


def _publish(bus: PushSource, observations: list[Observation]) -> None:
    for observation in observations:
        bus.publish(observation)
