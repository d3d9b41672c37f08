"""A simulated plant for the demo: two pumps and a furnace, with cycles, operating points, gaps and labelled faults.

Slot 0 is the first live slot; the past is at negative slots. All time constants are in steps, so that the plant looks
alike at any `step_s`. Changes of operating point happen in the past as well as live: they are normal, never a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stream_ad.demo.faults import Fault, FaultKind, FaultScale, RelationBreak, inject, schedule

__all__ = ["Fault", "FaultKind", "Plant"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_DWELL_STEPS = (150, 600)
_MISSING_RATE = 0.004
_BLOCK_RATE = 0.0008
_BLOCK_STEPS = (3, 12)
_ROW_BLOCK_RATE = 0.0003
_SCALE_STEPS = 1000


class _Chance:
    """Named streams of chance of one series: each is its own generator, so a longer run begins with the shorter one."""

    def __init__(self, seed: int, series: str, n: int) -> None:
        self.n = n
        self._key = [seed, *series.encode()]

    def generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([*self._key, 0, *name.encode()])

    def noise(self, name: str) -> FloatArray:
        """White noise with standard deviation 1, shape [n]."""
        return self.generator(name).standard_normal(self.n)

    def wander(self, name: str, steps: float) -> FloatArray:
        """Coloured noise with standard deviation about 1 and a memory of `steps`, shape [n]."""
        return _lag(self.noise(name), steps) * float(np.sqrt(2.0 * steps))

    def cycle(self, name: str, period_steps: float) -> FloatArray:
        """A sine with amplitude 1 and its own phase, shape [n]."""
        phase = self.generator(name).uniform(0.0, 2.0 * np.pi)
        wave: FloatArray = np.sin(2.0 * np.pi * np.arange(self.n) / period_steps + phase)
        return wave

    def regimes(self, levels: Sequence[float]) -> FloatArray:
        """Operating points by a Markov chain, shape [n]; it begins with a tour, so that the past knows each level."""
        rng = self.generator("regimes")
        tour = [int(i) for i in rng.permutation(len(levels))]
        target = np.empty(self.n)
        at, level = 0, tour[-1]
        while at < self.n:
            others = [i for i in range(len(levels)) if i != level]
            level = tour.pop(0) if tour else others[int(rng.integers(len(others)))]
            stay = int(rng.integers(_DWELL_STEPS[0], _DWELL_STEPS[1] + 1))
            target[at : at + stay] = levels[level]
            at += stay
        return target


def _lag(x: FloatArray, steps: float) -> FloatArray:
    """First-order lag with time constant `steps`; it starts at the first value. Shape [n]."""
    gain = 1.0 - float(np.exp(-1.0 / steps))
    out, state = [], float(x[0])
    for value in x.tolist():
        state += gain * (value - state)
        out.append(state)
    return np.asarray(out)


@dataclass(frozen=True, slots=True)
class _Channel:
    """One sensor: the sd of its own noise, the decimals it reports, its least value."""

    name: str
    noise: float
    decimals: int
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class _Machine:
    """One series: its channels, the process that makes them (columns in the same order), and how its relations break.

    `sensors` are the channels a fault may take; a set point is an input and has no sensor.
    """

    channels: tuple[_Channel, ...]
    process: Callable[[_Chance], tuple[FloatArray, ...]]
    breaks: tuple[RelationBreak, ...]
    inputs: frozenset[str] = frozenset()

    @property
    def sensors(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.channels if c.name not in self.inputs)


def _pump_process(
    rpm: Sequence[float], flow_m3h: float, pressure_bar: float, periods_steps: Sequence[float]
) -> Callable[[_Chance], tuple[FloatArray, ...]]:
    """A centrifugal pump by the affinity laws; `flow_m3h` and `pressure_bar` hold at the highest speed of `rpm`."""
    short, middle, long = periods_steps

    def process(chance: _Chance) -> tuple[FloatArray, ...]:
        speed = _lag(chance.regimes(rpm), 6.0) + 0.01 * max(rpm) * chance.wander("governor", 5.0)
        speed += max(rpm) * (0.02 * chance.cycle("short", short) + 0.012 * chance.cycle("middle", middle))
        turn = speed / max(rpm)
        demand = 1.0 + 0.02 * chance.wander("demand", 60.0) + 0.02 * chance.cycle("long", long)
        flow = flow_m3h * _lag(turn, 4.0) * demand
        pressure = pressure_bar * (1.3 * _lag(turn, 2.0) ** 2 - 0.3 * (flow / flow_m3h) ** 2)
        power = 0.8 + flow * pressure / 36.0 / 0.72  # m3/h x bar / 36 = kW of water; 0.72 is the pump's efficiency
        nominal_kw = 0.8 + flow_m3h * pressure_bar / 36.0 / 0.72
        ambient = 21.0 + 2.0 * chance.cycle("ambient", long)
        temperature = ambient + 38.0 * _lag(power / nominal_kw, 90.0)
        resonance = np.exp(-(((turn - 0.8) / 0.03) ** 2))
        vibration = 0.5 + 1.6 * turn**2 + 0.6 * resonance + 0.12 * chance.wander("rotor", 8.0)
        return speed, flow, pressure, power, vibration, temperature

    return process


def _furnace_process(chance: _Chance) -> tuple[FloatArray, ...]:
    """A gas furnace with a charging cycle; gas covers losses and heating; draft and oxygen follow the gas."""
    setpoint = _lag(chance.regimes((820.0, 910.0, 980.0)), 12.0) + 6.0 * chance.cycle("program", 360.0)
    charge = np.maximum(chance.cycle("charge", 75.0), 0.0)  # cold goods in the first half of each charging cycle
    temperature = _lag(setpoint, 14.0) - 9.0 * _lag(charge, 6.0) + 1.2 * chance.wander("flame", 10.0)
    heating = np.diff(_lag(setpoint, 8.0), prepend=setpoint[0])
    demand = 18.0 + 0.085 * (temperature - 20.0) + 2.2 * heating + 7.0 * _lag(charge, 4.0)
    gas = np.maximum(demand + 0.5 * chance.wander("gas", 15.0), 5.0)
    draft = -12.0 - 0.16 * _lag(gas, 3.0) + 0.9 * chance.wander("wind", 25.0) + 1.0 * chance.cycle("day", 1440.0)
    air = 1.0 + 0.01 * chance.wander("air", 40.0)
    oxygen = 21.0 * (1.0 - 1.0 / (1.18 * air * (1.0 + 0.06 * np.tanh((_lag(gas, 5.0) - gas) / 8.0))))
    return setpoint, temperature, gas, draft, oxygen


def _pump(rpm: Sequence[float], flow_m3h: float, pressure_bar: float, periods_steps: Sequence[float]) -> _Machine:
    """A pump with its sensors, their noise scaled to the pump's size."""
    channels = (
        _Channel("speed_rpm", 0.002 * max(rpm), 0),
        _Channel("flow_m3h", 0.008 * flow_m3h, 2),
        _Channel("pressure_bar", 0.006 * pressure_bar, 3),
        _Channel("power_kw", 0.0003 * flow_m3h * pressure_bar, 2),
        _Channel("vibration_mms", 0.08, 3),
        _Channel("temperature_c", 0.15, 1, -40.0),
    )
    breaks = (
        RelationBreak((("flow_m3h", -1.0), ("pressure_bar", -0.5)), "flow and pressure fall while speed stays: a leak"),
        RelationBreak((("power_kw", 1.0), ("vibration_mms", 0.7)), "power and vibration rise at one speed: a bearing"),
        RelationBreak((("temperature_c", 1.0),), "temperature rises at the same power: cooling is lost"),
    )
    return _Machine(channels, _pump_process(rpm, flow_m3h, pressure_bar, periods_steps), breaks)


_FURNACE = _Machine(
    channels=(
        _Channel("setpoint_c", 0.0, 1),
        _Channel("temperature_c", 0.8, 1, -40.0),
        _Channel("gas_m3h", 0.6, 2),
        _Channel("draft_pa", 0.35, 2, -np.inf),
        _Channel("o2_pct", 0.06, 2),
    ),
    process=_furnace_process,
    breaks=(
        RelationBreak((("o2_pct", 1.0), ("draft_pa", 0.6)), "oxygen and draft rise at the same gas: false air"),
        RelationBreak((("gas_m3h", 1.0),), "gas rises at the same temperature: heat is lost"),
    ),
    inputs=frozenset({"setpoint_c"}),
)
_MACHINES = {
    "plant/pump-1": _pump((1150.0, 1450.0, 1750.0), 120.0, 6.0, (48.0, 330.0, 1440.0)),
    "plant/pump-2": _pump((2100.0, 2500.0, 2900.0), 45.0, 9.5, (64.0, 240.0, 1440.0)),
    "plant/furnace": _FURNACE,
}


def _missing(chance: _Chance, n_channels: int) -> BoolArray:
    """Where readings are missing, [n, channel]: single ones, short blocks of one channel, short blocks of all."""
    gone = np.zeros((chance.n, n_channels), dtype=np.bool_)
    for column in range(n_channels):
        gone[:, column] |= chance.generator(f"single-{column}").random(chance.n) < _MISSING_RATE
    for column, rate in [*((c, _BLOCK_RATE) for c in range(n_channels)), (-1, _ROW_BLOCK_RATE)]:
        starts = np.flatnonzero(chance.generator(f"block-{column}").random(chance.n) < rate)
        lengths = chance.generator(f"length-{column}").integers(*_BLOCK_STEPS, size=len(starts), endpoint=True)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            gone[start : start + length, slice(None) if column < 0 else column] = True
    return gone


class Plant:
    """The plant from slot -past_slots to live_slots (exclusive); a function of its arguments, however the rows are cut.

    A longer `live_slots` continues the same run (from 1,000 slots on), and faults change only their own channels and
    slots. A series is computed whole at its first use (under 0.1 s for 10,000 slots) and kept.
    """

    def __init__(
        self,
        seed: int,
        step_s: float = 1.0,
        *,
        past_slots: int = 6000,
        live_slots: int = 4000,
        faults: Iterable[Fault] = (),
    ) -> None:
        if step_s <= 0.0 or past_slots < 0 or live_slots < 0 or past_slots + live_slots == 0:
            raise ValueError(
                f"expected step_s > 0 and at least one slot, found {step_s=}, {past_slots=}, {live_slots=}"
            )
        self.seed, self.step_s = seed, step_s
        self.past_slots, self.live_slots = past_slots, live_slots
        self.faults = tuple(faults)
        self._rows: dict[str, FloatArray] = {}
        self._check_faults()

    @classmethod
    def live(
        cls, seed: int, n_slots: int, faults_per_series: int, *, step_s: float = 1.0, past_slots: int = 6000
    ) -> Plant:
        """A plant with a normal past and scheduled faults in its `n_slots` live slots (see `plant_faults.schedule`)."""
        sensors = {name: machine.sensors for name, machine in _MACHINES.items()}
        breaks = {name: machine.breaks for name, machine in _MACHINES.items()}
        faults = schedule(seed, n_slots, faults_per_series, sensors, breaks)
        return cls(seed, step_s, past_slots=past_slots, live_slots=n_slots, faults=faults)

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(_MACHINES)

    def channels(self, series: str) -> tuple[str, ...]:
        """The channels of `series`, in the order of the columns of `rows`."""
        return tuple(channel.name for channel in self._machine(series).channels)

    def time_ns(self, slot: int, live_start_ns: int) -> int:
        """The event time of `slot` when slot 0 is at `live_start_ns`."""
        return live_start_ns + slot * round(self.step_s * 1e9)

    def rows(self, series: str, first_slot: int, n: int) -> FloatArray:
        """A copy of the readings of slots first_slot .. first_slot + n - 1, shape [n, channel], NaN = missing."""
        if n < 0 or first_slot < -self.past_slots or first_slot + n > self.live_slots:
            raise ValueError(
                f"expected slots within [{-self.past_slots}, {self.live_slots}), found [{first_slot}, {first_slot + n})"
            )
        if series not in self._rows:
            self._rows[series] = self._simulate(series)
        start = first_slot + self.past_slots
        return self._rows[series][start : start + n].copy()

    def _machine(self, series: str) -> _Machine:
        if series not in _MACHINES:
            raise ValueError(f"expected one of {', '.join(_MACHINES)}, found {series!r}")
        return _MACHINES[series]

    def _simulate(self, series: str) -> FloatArray:
        """All readings of one series, [slot, channel]: process, sensor noise, faults, rounding, gaps."""
        channels = self._machine(series).channels
        chance = _Chance(self.seed, series, self.past_slots + self.live_slots)
        columns = {channel.name: index for index, channel in enumerate(channels)}
        values = np.column_stack(self._machine(series).process(chance))
        for index, channel in enumerate(channels):
            values[:, index] += channel.noise * chance.noise(f"sensor-{channel.name}")
            values[:, index] = np.maximum(values[:, index], channel.floor)
        sds = values[: max(self.past_slots, _SCALE_STEPS)].std(axis=0).tolist()
        scales = {
            channel.name: FaultScale(sd, max(channel.noise, 10.0**-channel.decimals), channel.floor)
            for channel, sd in zip(channels, sds, strict=True)
        }
        for fault in self.faults:
            if fault.series == series:
                inject(values, fault, first_slot=-self.past_slots, columns=columns, scales=scales, seed=self.seed)
        for index, channel in enumerate(channels):
            values[:, index] = np.round(values[:, index], channel.decimals)
        values[_missing(chance, len(channels))] = np.nan
        return values

    def _check_faults(self) -> None:
        for fault in self.faults:
            unknown = set(fault.channels) - set(self.channels(fault.series))
            if unknown:
                raise ValueError(f"expected channels of {fault.series}, found {sorted(unknown)}")
            if fault.start_slot < -self.past_slots or fault.end_slot > self.live_slots:
                raise ValueError(f"expected faults within [{-self.past_slots}, {self.live_slots}), found {fault}")
        ordered = sorted(self.faults, key=lambda fault: (fault.series, fault.start_slot))
        for before, after in pairwise(ordered):
            if before.series == after.series and after.start_slot < before.end_slot:
                raise ValueError(f"expected faults that do not overlap, found {before} and {after}")
