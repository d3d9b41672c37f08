"""The demo: a simulated plant and the metrics of this machine, scored live without any service.

It is a worker with other inputs: two sources, one `ConsumerLoop`, one embedded store. The plant is first fitted on its
past; the machine is a new series that fills its memory while it runs. Only the report knows the plant's faults.
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
from stream_ad.demo.summary import Run, print_summary, write_config
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
PLANT_STEP_S = 0.05  # short, so that a minute covers many slots
MACHINE_STEP_S = 0.25
PAST_SLOTS = 20_000
FAULTS_PER_SERIES = 4
SLOTS_PER_FAULT = 250  # at least: faults are separated by normal slots; a short run has one fault per series
FALSE_ALARMS = "1 per 10min"  # 0.4 expected in a run of 75 s over three series
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
    """Fits the plant, runs live for `seconds` and reports. Ctrl-C ends it early, with a report on what was scored.

    clock, sleep: the time source; scorer: replaces the one that the settings name.
    """
    view = DemoView()
    try:
        _run(view, demo_settings(out, settings), plan_plant(seed, seconds), out, scorer, clock or open_clock(), sleep)
    except KeyboardInterrupt:
        view.say(f"stopped; the scores so far are in {out}")


def demo_settings(out: Path, settings: Settings | None = None) -> Settings:
    """Embedded settings of the demo from `settings`: its store, models and subscriptions."""
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
    """The plant with as many faults as fit into `seconds`."""
    slots = max(1, round(seconds / PLANT_STEP_S))
    room = int(0.88 * slots)  # the schedule leaves the first 6-12 % without a fault
    faults = min(FAULTS_PER_SERIES, max(int(room > 62), room // SLOTS_PER_FAULT))
    return Plant.live(seed, slots, faults, step_s=PLANT_STEP_S, past_slots=PAST_SLOTS)


def _run(
    view: DemoView, settings: Settings, plant: Plant, out: Path, scorer: Scorer | None, clock: Clock, sleep: Sleep
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
        _fit_past(view, plant, series, scorer, profiles, clock)
    store = open_store(settings)
    try:
        live = _Live(view, plant, Pipeline(settings, scorer, profiles), store, clock, sleep, began_s)
        asyncio.run(live.run())
        run = Run(settings, out, scorer, plant, store, live.machine, live.start_ns, live.stop_ns, live.waited_s)
        print_summary(view, run)
    finally:
        store.sink.close()


def _introduce(view: DemoView, plant: Plant, settings: Settings) -> None:
    per_series = len(plant.faults) // len(plant.series)
    view.heading("stream-ad demo: simulated plant and this machine, no service, no network")
    view.say(
        f"  plant    {len(plant.series)} series, a reading every {PLANT_STEP_S * 1000:.0f} ms for "
        f"{plant.live_slots * PLANT_STEP_S:.0f} s, {per_series} fault(s) each (seed {plant.seed})"
    )
    view.say(f"  machine  its own metrics every {MACHINE_STEP_S * 1000:.0f} ms, a new series without history")
    view.say(f"  alerts   threshold for {settings.detector.false_alarms} false alarms per series, set without labels")
    view.heading("fitting")


def _fit_past(view: DemoView, plant: Plant, series: str, scorer: Scorer, profiles: ProfileStore, clock: Clock) -> None:
    """Fits and promotes the profile of a plant series, from the slots before it goes live."""
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
    """The live part. waited_s: alert id -> seconds from the slot that opened it until its report."""

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
    waited_s: dict[str, float] = field(default_factory=dict)
    _start_s: float = 0.0
    _slots: int = 0

    async def run(self) -> None:
        """Returns when all slots are scored; when cancelled, as soon as the received ones are."""
        bus = open_bus(self.clock)
        machine = open_host_source(MACHINE_STEP_S, clock=self.clock, sleep=self.sleep)
        self.machine = socket.gethostname()
        sinks = list(open_sinks(self.pipeline.settings, self.store).values())
        source = merge_sources(bus, machine)
        loop = ConsumerLoop(source, self.pipeline, sinks, None, self.clock, on_outputs=self._show)
        step_ns = round(self.plant.step_s * 1e9)
        self.start_ns = (self.clock.now_ns() // step_ns + 1) * step_ns
        self._start_s = self.clock.monotonic_s()
        self.view.heading("live (UTC; Ctrl-C ends it early, with a report)")
        with self.view:
            running = asyncio.create_task(loop.run())
            helpers = [asyncio.create_task(self._feed(bus)), asyncio.create_task(self._update_status(running))]
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                self.view.say("stopping: scoring the slots received so far")
                helpers[0].cancel()  # closes the bus, which ends the consumer loop
                await running
            finally:
                end_ns = self.plant.time_ns(self.plant.live_slots, self.start_ns)
                self.stop_ns = max(self.clock.now_ns() + 1, end_ns)  # even if the wall clock was set back
                for helper in helpers:
                    helper.cancel()
        for helper in helpers:
            with suppress(asyncio.CancelledError):
                await helper

    async def _feed(self, bus: PushSource) -> None:
        """Publishes every slot at its time; when late, all due slots at once."""
        step_s = self.plant.step_s
        rows = {series: self.plant.rows(series, 0, self.plant.live_slots) for series in self.plant.series}
        try:
            for slot in range(self.plant.live_slots):
                early_s = self._start_s + slot * step_s - self.clock.monotonic_s()
                if early_s > 0:
                    await self.sleep(early_s)
                time_ns = self.plant.time_ns(slot, self.start_ns)
                for series, values in rows.items():
                    readings = dict(zip(self.plant.channels(series), values[slot].tolist(), strict=True))
                    await asyncio.to_thread(bus.publish, Observation(series, time_ns, readings))
        finally:
            bus.close()

    async def _update_status(self, running: asyncio.Task[None]) -> None:
        while not running.done():
            await asyncio.sleep(STATUS_S)
            now_s = self.clock.monotonic_s()
            left_s = self._start_s + self.plant.live_slots * self.plant.step_s - now_s
            machine = next((s for s in self.pipeline.statuses() if s.series == self.machine), None)
            text = "" if machine is None else f"{self.machine}: {machine.detail}"
            self.view.status(now_s, left_s, self._slots, len(self.waited_s), text)

    def _show(self, outputs: Outputs) -> None:
        """Called after the outputs are stored."""
        self._slots += sum(len(batch) for batch in outputs.scores)
        now_ns = self.clock.now_ns()
        for alert in outputs.alerts:
            first = not self.waited_s
            if alert.state is AlertState.OPEN:
                self.waited_s.setdefault(alert.id, (now_ns - alert.detected_ns) / 1e9)
            self.view.alert(alert, self.waited_s.get(alert.id, 0.0))
            if first and self.waited_s:
                after_s = self.clock.monotonic_s() - self.began_s
                self.view.say(f"  (the first alert, {after_s:.0f} s after the start)", "dim")
