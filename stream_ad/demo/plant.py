"""A simulated plant: two pumps and a furnace, with cycles, operating points, gaps and labelled faults.

Slot 0 is the first live slot; the past has negative slots. All time constants are in steps, so the plant behaves the
same at any `step_s`. Operating points change in the past as well as live: that is normal, never a fault. A fault
changes only its own channels between its own slots, so its label is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

__all__ = ["Fault", "FaultKind", "Plant"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_DWELL_STEPS = (150, 600)
_MISSING_RATE = 0.004
_BLOCK_RATE, _ROW_BLOCK_RATE = 0.0008, 0.0003
_BLOCK_STEPS = (3, 12)
_SCALE_STEPS = 1000
_SPIKE_SPACING_STEPS = 6
_ONSET_STEPS = 8.0
_PERIOD_STEPS = (6.0, 20.0)
_MIN_CELL_STEPS = 60
_GRADES = ("clear", "moderate", "subtle")


class FaultKind(StrEnum):
    LEVEL_SHIFT = "level_shift"
    DRIFT = "drift"
    SPIKE_BURST = "spike_burst"
    FROZEN_SENSOR = "frozen_sensor"
    NOISE_INCREASE = "noise_increase"
    BROKEN_RELATION = "broken_relation"
    OSCILLATION = "oscillation"
    DROPOUT_TO_ZERO = "dropout_to_zero"


# Sizes (clear, moderate, subtle; 0 = the kind has none), shortest and longest duration in steps, description.
_KINDS: dict[FaultKind, tuple[tuple[float, float, float], tuple[int, int], str]] = {
    FaultKind.LEVEL_SHIFT: ((2.0, 1.0, 0.5), (40, 120), "{channel} jumps by {size:+.1f} sd"),
    FaultKind.DRIFT: ((3.0, 1.5, 0.8), (100, 200), "{channel} drifts away to {size:+.1f} sd"),
    FaultKind.SPIKE_BURST: ((5.0, 3.0, 1.5), (25, 60), "{channel} shows a burst of spikes of about {size:+.1f} sd"),
    FaultKind.FROZEN_SENSOR: ((0.0, 0.0, 0.0), (40, 120), "{channel} is frozen at its last value"),
    FaultKind.NOISE_INCREASE: (
        (6.0, 3.0, 1.5),
        (40, 120),
        "{channel} gets noisier, by {scale:.1f} times its normal noise",
    ),
    FaultKind.BROKEN_RELATION: ((2.0, 1.0, 0.5), (60, 160), ""),
    FaultKind.OSCILLATION: ((1.5, 0.8, 0.4), (60, 160), "{channel} oscillates with an amplitude of {scale:.1f} sd"),
    FaultKind.DROPOUT_TO_ZERO: ((0.0, 0.0, 0.0), (6, 30), "{channel} drops to zero"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One labelled fault: `channels` of `series` are wrong in slots [start_slot, end_slot).

    magnitudes: one signed size per channel, in standard deviations of the channel in normal operation, of its sensor
    noise for NOISE_INCREASE; 0 where the kind has no size.
    """

    kind: FaultKind
    series: str
    channels: tuple[str, ...]
    start_slot: int
    end_slot: int
    magnitudes: tuple[float, ...]
    description: str


class _Random:
    """Named random streams of one series, each with its own generator: a longer run begins with the shorter one."""

    def __init__(self, seed: int, series: str, n: int) -> None:
        self.n = n
        self._key = [seed, *series.encode()]

    def generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([*self._key, 0, *name.encode()])

    def noise(self, name: str) -> FloatArray:
        """White noise with standard deviation 1, [n]."""
        return self.generator(name).standard_normal(self.n)

    def wander(self, name: str, steps: float) -> FloatArray:
        """Coloured noise with standard deviation about 1 and a time constant of `steps`, [n]."""
        return _lag(self.noise(name), steps) * float(np.sqrt(2.0 * steps))

    def cycle(self, name: str, period_steps: float) -> FloatArray:
        """A sine with amplitude 1 and a random phase, [n]."""
        phase = self.generator(name).uniform(0.0, 2.0 * np.pi)
        wave: FloatArray = np.sin(2.0 * np.pi * np.arange(self.n) / period_steps + phase)
        return wave

    def regimes(self, levels: Sequence[float]) -> FloatArray:
        """Operating points by a Markov chain that first visits every level, [n]."""
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
    """First-order lag with time constant `steps` that starts at the first value, [n]."""
    gain = 1.0 - float(np.exp(-1.0 / steps))
    out, state = [], float(x[0])
    for value in x.tolist():
        state += gain * (value - state)
        out.append(state)
    return np.asarray(out)


@dataclass(frozen=True, slots=True)
class _Channel:
    """One sensor: sd of its noise (0 = a set point, which has no faults), decimals it reports, least value."""

    name: str
    noise: float
    decimals: int
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class _Machine:
    """One series. process: its channels, in order. breaks: (channel -> weight, text) of each broken relation."""

    channels: tuple[_Channel, ...]
    process: Callable[[_Random], tuple[FloatArray, ...]]
    breaks: tuple[tuple[dict[str, float], str], ...]


def _pump(rpm: Sequence[float], flow_m3h: float, pressure_bar: float, periods_steps: Sequence[float]) -> _Machine:
    """A centrifugal pump by the affinity laws; `flow_m3h` and `pressure_bar` hold at the highest speed of `rpm`."""
    short, middle, long = periods_steps

    def process(random: _Random) -> tuple[FloatArray, ...]:
        speed = _lag(random.regimes(rpm), 6.0) + 0.01 * max(rpm) * random.wander("governor", 5.0)
        speed += max(rpm) * (0.02 * random.cycle("short", short) + 0.012 * random.cycle("middle", middle))
        turn = speed / max(rpm)
        demand = 1.0 + 0.02 * random.wander("demand", 60.0) + 0.02 * random.cycle("long", long)
        flow = flow_m3h * _lag(turn, 4.0) * demand
        pressure = pressure_bar * (1.3 * _lag(turn, 2.0) ** 2 - 0.3 * (flow / flow_m3h) ** 2)
        power = 0.8 + flow * pressure / 36.0 / 0.72  # m3/h x bar / 36 = kW of water; 0.72 is the pump's efficiency
        nominal_kw = 0.8 + flow_m3h * pressure_bar / 36.0 / 0.72
        ambient = 21.0 + 2.0 * random.cycle("ambient", long)
        temperature = ambient + 38.0 * _lag(power / nominal_kw, 90.0)
        resonance = np.exp(-(((turn - 0.8) / 0.03) ** 2))
        vibration = 0.5 + 1.6 * turn**2 + 0.6 * resonance + 0.12 * random.wander("rotor", 8.0)
        return speed, flow, pressure, power, vibration, temperature

    channels = (
        _Channel("speed_rpm", 0.002 * max(rpm), 0),
        _Channel("flow_m3h", 0.008 * flow_m3h, 2),
        _Channel("pressure_bar", 0.006 * pressure_bar, 3),
        _Channel("power_kw", 0.0003 * flow_m3h * pressure_bar, 2),
        _Channel("vibration_mms", 0.08, 3),
        _Channel("temperature_c", 0.15, 1, -40.0),
    )
    breaks = (
        ({"flow_m3h": -1.0, "pressure_bar": -0.5}, "flow and pressure fall while speed stays: a leak"),
        ({"power_kw": 1.0, "vibration_mms": 0.7}, "power and vibration rise at one speed: a bearing"),
        ({"temperature_c": 1.0}, "temperature rises at the same power: cooling is lost"),
    )
    return _Machine(channels, process, breaks)


def _furnace_process(random: _Random) -> tuple[FloatArray, ...]:
    """A gas furnace with a charging cycle; gas covers losses and heating; draft and oxygen follow the gas."""
    setpoint = _lag(random.regimes((820.0, 910.0, 980.0)), 12.0) + 6.0 * random.cycle("program", 360.0)
    charge = np.maximum(random.cycle("charge", 75.0), 0.0)  # cold goods in the first half of each charging cycle
    temperature = _lag(setpoint, 14.0) - 9.0 * _lag(charge, 6.0) + 1.2 * random.wander("flame", 10.0)
    heating = np.diff(_lag(setpoint, 8.0), prepend=setpoint[0])
    demand = 18.0 + 0.085 * (temperature - 20.0) + 2.2 * heating + 7.0 * _lag(charge, 4.0)
    gas = np.maximum(demand + 0.5 * random.wander("gas", 15.0), 5.0)
    draft = -12.0 - 0.16 * _lag(gas, 3.0) + 0.9 * random.wander("wind", 25.0) + 1.0 * random.cycle("day", 1440.0)
    air = 1.0 + 0.01 * random.wander("air", 40.0)
    oxygen = 21.0 * (1.0 - 1.0 / (1.18 * air * (1.0 + 0.06 * np.tanh((_lag(gas, 5.0) - gas) / 8.0))))
    return setpoint, temperature, gas, draft, oxygen


_MACHINES = {
    "plant/pump-1": _pump((1150.0, 1450.0, 1750.0), 120.0, 6.0, (48.0, 330.0, 1440.0)),
    "plant/pump-2": _pump((2100.0, 2500.0, 2900.0), 45.0, 9.5, (64.0, 240.0, 1440.0)),
    "plant/furnace": _Machine(
        (
            _Channel("setpoint_c", 0.0, 1),
            _Channel("temperature_c", 0.8, 1, -40.0),
            _Channel("gas_m3h", 0.6, 2),
            _Channel("draft_pa", 0.35, 2, -np.inf),
            _Channel("o2_pct", 0.06, 2),
        ),
        _furnace_process,
        (
            ({"o2_pct": 1.0, "draft_pa": 0.6}, "oxygen and draft rise at the same gas: false air"),
            ({"gas_m3h": 1.0}, "gas rises at the same temperature: heat is lost"),
        ),
    ),
}


class Plant:
    """Readings in slots [-past_slots, live_slots): a function of the arguments, however the rows are cut.

    A longer `live_slots` continues the same run (from 1,000 slots on). A series is computed whole at its first use
    (under 0.1 s for 10,000 slots) and cached.
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
        self.seed, self.step_s = seed, step_s
        self.past_slots, self.live_slots = past_slots, live_slots
        self.faults = tuple(faults)
        self._rows: dict[str, FloatArray] = {}

    @classmethod
    def live(
        cls, seed: int, n_slots: int, faults_per_series: int, *, step_s: float = 1.0, past_slots: int = 6000
    ) -> Plant:
        """A plant with a normal past and scheduled faults in its `n_slots` live slots (see `_schedule`)."""
        faults = _schedule(seed, n_slots, faults_per_series)
        return cls(seed, step_s, past_slots=past_slots, live_slots=n_slots, faults=faults)

    @property
    def series(self) -> tuple[str, ...]:
        return tuple(_MACHINES)

    def channels(self, series: str) -> tuple[str, ...]:
        """The columns of `rows`."""
        return tuple(channel.name for channel in _MACHINES[series].channels)

    def time_ns(self, slot: int, live_start_ns: int) -> int:
        """The event time of `slot` when slot 0 is at `live_start_ns`."""
        return live_start_ns + slot * round(self.step_s * 1e9)

    def rows(self, series: str, first_slot: int, n: int) -> FloatArray:
        """A copy of the readings of slots first_slot .. first_slot + n - 1, [n, channel], NaN = missing."""
        if n < 0 or first_slot < -self.past_slots or first_slot + n > self.live_slots:
            raise ValueError(
                f"expected slots within [{-self.past_slots}, {self.live_slots}), found [{first_slot}, {first_slot + n})"
            )
        if series not in self._rows:
            self._rows[series] = self._simulate(series)
        start = first_slot + self.past_slots
        return self._rows[series][start : start + n].copy()

    def _simulate(self, series: str) -> FloatArray:
        """All readings of one series, [slot, channel]: process, sensor noise, faults, rounding, gaps."""
        machine = _MACHINES[series]
        random = _Random(self.seed, series, self.past_slots + self.live_slots)
        values = np.column_stack(machine.process(random))
        for column, channel in enumerate(machine.channels):
            values[:, column] += channel.noise * random.noise(f"sensor-{channel.name}")
            values[:, column] = np.maximum(values[:, column], channel.floor)
        sds = values[: max(self.past_slots, _SCALE_STEPS)].std(axis=0).tolist()
        for fault in self.faults:
            if fault.series == series:
                self._inject(values, fault, sds)
        for column, channel in enumerate(machine.channels):
            values[:, column] = np.round(values[:, column], channel.decimals)
        values[_missing(random, len(machine.channels))] = np.nan
        return values

    def _inject(self, values: FloatArray, fault: Fault, sds: Sequence[float]) -> None:
        """Writes `fault` into `values`, in place. Its random numbers depend on the seed and the fault alone."""
        span = slice(fault.start_slot + self.past_slots, fault.end_slot + self.past_slots)
        columns = self.channels(fault.series)
        for name, size in zip(fault.channels, fault.magnitudes, strict=True):
            column = columns.index(name)
            channel = _MACHINES[fault.series].channels[column]
            if fault.kind is FaultKind.FROZEN_SENSOR:
                values[span, column] = values[max(span.start - 1, 0), column]
            elif fault.kind is FaultKind.DROPOUT_TO_ZERO:
                values[span, column] = 0.0
            else:
                rng = np.random.default_rng([self.seed, *f"{fault.series}/{name}".encode(), span.start])
                unit = sds[column]
                if fault.kind is FaultKind.NOISE_INCREASE:
                    unit = max(channel.noise, 10.0**-channel.decimals)
                added = _shape(fault.kind, span.stop - span.start, size * unit, rng)
                values[span, column] = np.maximum(values[span, column] + added, channel.floor)


def _shape(kind: FaultKind, n: int, size: float, rng: np.random.Generator) -> FloatArray:
    """The values that an additive fault adds to one channel, [n], in the channel's unit."""
    age = np.arange(1.0, n + 1.0)
    if kind is FaultKind.LEVEL_SHIFT:
        return np.full(n, size)
    if kind is FaultKind.DRIFT:
        return size * age / n
    if kind is FaultKind.SPIKE_BURST:
        hit = rng.random(n) < 1.0 / _SPIKE_SPACING_STEPS
        hit[[0, -1]] = True  # both ends of the label are spikes, so the label is not wider than the fault
        return np.where(hit, size * rng.uniform(0.7, 1.3, n), 0.0)
    if kind is FaultKind.NOISE_INCREASE:
        return abs(size) * rng.standard_normal(n)
    onset = 1.0 - np.exp(-age / _ONSET_STEPS)
    if kind is FaultKind.BROKEN_RELATION:
        return size * onset
    return size * onset * np.sin(2.0 * np.pi * age / rng.uniform(*_PERIOD_STEPS))


def _missing(random: _Random, n_channels: int) -> BoolArray:
    """Missing readings, [n, channel]: single ones, short blocks of one channel, short blocks of all."""
    gone = np.zeros((random.n, n_channels), dtype=np.bool_)
    for column in range(n_channels):
        gone[:, column] |= random.generator(f"single-{column}").random(random.n) < _MISSING_RATE
    for column, rate in [*((c, _BLOCK_RATE) for c in range(n_channels)), (-1, _ROW_BLOCK_RATE)]:
        starts = np.flatnonzero(random.generator(f"block-{column}").random(random.n) < rate)
        lengths = random.generator(f"length-{column}").integers(*_BLOCK_STEPS, size=len(starts), endpoint=True)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            gone[start : start + length, slice(None) if column < 0 else column] = True
    return gone


def _schedule(seed: int, n_slots: int, faults_per_series: int) -> tuple[Fault, ...]:
    """Faults over the live slots [0, n_slots), ordered by series and time.

    The first fault of a series is within the first 6-12 % of the live part. The rest is cut into equal cells with one
    fault each; a fault takes at most 40 % of its cell, and at least 35 % of the cell after it is normal. Kinds are
    drawn without replacement until each has occurred.
    """
    rng = np.random.default_rng([seed, *b"schedule"])
    deck: list[FaultKind] = []
    faults: list[Fault] = []
    for series in _MACHINES if faults_per_series else ():
        first = int(rng.uniform(0.06, 0.12) * n_slots)
        cell = (n_slots - first) // faults_per_series
        if cell < _MIN_CELL_STEPS:
            need = int(np.ceil(_MIN_CELL_STEPS * faults_per_series / 0.88)) + 1
            raise ValueError(f"{faults_per_series} faults per series need at least {need} slots, found {n_slots}")
        for index in range(faults_per_series):
            if not deck:
                deck = [list(FaultKind)[int(i)] for i in rng.permutation(len(FaultKind))]
            kind = deck.pop()
            low, high = _KINDS[kind][1]
            n = min(int(rng.integers(low, high + 1)), int(0.4 * cell))
            start = first + index * cell + (int(rng.uniform(0.0, 0.25) * cell) if index else 0)
            faults.append(_draw(kind, series, start, start + n, rng))
    return tuple(faults)


def _draw(kind: FaultKind, series: str, start: int, end: int, rng: np.random.Generator) -> Fault:
    """One fault of `kind` in slots [start, end), with random channels and size."""
    machine = _MACHINES[series]
    grade = int(rng.integers(len(_GRADES)))
    sizes, _, template = _KINDS[kind]
    size = sizes[grade]
    if kind is FaultKind.BROKEN_RELATION:
        weights, text = machine.breaks[int(rng.integers(len(machine.breaks)))]
        magnitudes = tuple(weight * size for weight in weights.values())
        return Fault(kind, series, tuple(weights), start, end, magnitudes, f"{text} ({size:.1f} sd, {_GRADES[grade]})")
    size *= float(rng.choice([-1.0, 1.0]))
    sensors = [channel.name for channel in machine.channels if channel.noise]
    name = sensors[int(rng.integers(len(sensors)))]
    text = template.format(channel=name, size=size, scale=abs(size)) + (f" ({_GRADES[grade]})" if size else "")
    return Fault(kind, series, (name,), start, end, (size,), text)
