"""Faults of the simulated plant: what each kind does to the readings, and a schedule over the live part.

A fault works on the readings after the process is simulated, so it changes its own channels between its own slots and
nothing else: the label is the exact truth. Sizes are in standard deviations of the channel in normal running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

__all__ = ["Fault", "FaultKind", "FaultScale", "RelationBreak", "inject", "schedule"]

FloatArray = npt.NDArray[np.float64]


class FaultKind(StrEnum):
    """What can go wrong with a sensor or with the machine behind it."""

    LEVEL_SHIFT = "level_shift"
    DRIFT = "drift"
    SPIKE_BURST = "spike_burst"
    FROZEN_SENSOR = "frozen_sensor"
    NOISE_INCREASE = "noise_increase"
    BROKEN_RELATION = "broken_relation"
    OSCILLATION = "oscillation"
    DROPOUT_TO_ZERO = "dropout_to_zero"


@dataclass(frozen=True, slots=True)
class Fault:
    """One labelled fault: `channels` of `series` are wrong in slots [start_slot, end_slot).

    `magnitudes` has one signed size for each channel: in standard deviations of the channel, of its sensor noise for
    NOISE_INCREASE, and 0 for the kinds that have no size (frozen, dropout).
    """

    kind: FaultKind
    series: str
    channels: tuple[str, ...]
    start_slot: int
    end_slot: int
    magnitudes: tuple[float, ...]
    description: str

    def __post_init__(self) -> None:
        if not self.start_slot < self.end_slot:
            raise ValueError(f"expected start_slot < end_slot, found {self.start_slot} and {self.end_slot}")
        if not self.channels or len(self.channels) != len(self.magnitudes):
            raise ValueError(f"expected one magnitude per channel, found {self.channels} and {self.magnitudes}")


@dataclass(frozen=True, slots=True)
class FaultScale:
    """What "one standard deviation" means for one channel; `floor` is the least value its sensor can report."""

    sd: float
    noise_sd: float
    floor: float


@dataclass(frozen=True, slots=True)
class RelationBreak:
    """A machine fault in which some channels move though the one that drives them does not; weights are relative."""

    weights: tuple[tuple[str, float], ...]
    description: str


# Clear, moderate, subtle; see `Fault.magnitudes` for the units. Fixed from what plants do, not from any detector.
_SIZES: dict[FaultKind, tuple[float, float, float]] = {
    FaultKind.LEVEL_SHIFT: (2.0, 1.0, 0.5),
    FaultKind.DRIFT: (3.0, 1.5, 0.8),
    FaultKind.SPIKE_BURST: (5.0, 3.0, 1.5),
    FaultKind.FROZEN_SENSOR: (0.0, 0.0, 0.0),
    FaultKind.NOISE_INCREASE: (6.0, 3.0, 1.5),
    FaultKind.BROKEN_RELATION: (2.0, 1.0, 0.5),
    FaultKind.OSCILLATION: (1.5, 0.8, 0.4),
    FaultKind.DROPOUT_TO_ZERO: (0.0, 0.0, 0.0),
}
_SIZE_NAMES = ("clear", "moderate", "subtle")
_LENGTHS_STEPS: dict[FaultKind, tuple[int, int]] = {
    FaultKind.LEVEL_SHIFT: (40, 120),
    FaultKind.DRIFT: (100, 200),
    FaultKind.SPIKE_BURST: (25, 60),
    FaultKind.FROZEN_SENSOR: (40, 120),
    FaultKind.NOISE_INCREASE: (40, 120),
    FaultKind.BROKEN_RELATION: (60, 160),
    FaultKind.OSCILLATION: (60, 160),
    FaultKind.DROPOUT_TO_ZERO: (6, 30),
}
_SPIKE_SPACING_STEPS = 6
_ONSET_STEPS = 8.0
_PERIOD_STEPS = (6.0, 20.0)
_MIN_CELL_STEPS = 60


def _offset(fault: Fault, size: float, scale: FaultScale, rng: np.random.Generator) -> FloatArray:
    """What an additive fault adds to one channel, shape [end_slot - start_slot], in the channel's unit."""
    n = fault.end_slot - fault.start_slot
    age = np.arange(n, dtype=np.float64)
    if fault.kind is FaultKind.LEVEL_SHIFT:
        return np.full(n, size * scale.sd)
    if fault.kind is FaultKind.DRIFT:
        return size * scale.sd * (age + 1.0) / n
    if fault.kind is FaultKind.SPIKE_BURST:
        hit = rng.random(n) < 1.0 / _SPIKE_SPACING_STEPS
        hit[[0, -1]] = True  # the label's two ends are spikes, so that the label is not wider than the fault
        return np.where(hit, size * scale.sd * rng.uniform(0.7, 1.3, n), 0.0)
    if fault.kind is FaultKind.NOISE_INCREASE:
        return abs(size) * scale.noise_sd * rng.standard_normal(n)
    onset = 1.0 - np.exp(-(age + 1.0) / _ONSET_STEPS)
    if fault.kind is FaultKind.BROKEN_RELATION:
        return size * scale.sd * onset
    period_steps = rng.uniform(*_PERIOD_STEPS)
    return size * scale.sd * onset * np.sin(2.0 * np.pi * (age + 1.0) / period_steps)


def inject(
    values: FloatArray,
    fault: Fault,
    *,
    first_slot: int,
    columns: Mapping[str, int],
    scales: Mapping[str, FaultScale],
    seed: int,
) -> None:
    """Write `fault` into `values` [slot, channel], in place; row 0 is slot `first_slot` and every reading is present.

    The chance it needs depends on `seed` and the fault alone, so that other faults do not change this one.
    """
    span = slice(fault.start_slot - first_slot, fault.end_slot - first_slot)
    for channel, size in zip(fault.channels, fault.magnitudes, strict=True):
        column, scale = columns[channel], scales[channel]
        if fault.kind is FaultKind.FROZEN_SENSOR:
            values[span, column] = values[max(span.start - 1, 0), column]
        elif fault.kind is FaultKind.DROPOUT_TO_ZERO:
            values[span, column] = 0.0
        else:
            key = [seed, *f"{fault.series}/{channel}".encode(), fault.start_slot - first_slot]
            added = _offset(fault, size, scale, np.random.default_rng(key))
            values[span, column] = np.maximum(values[span, column] + added, scale.floor)


def _describe(kind: FaultKind, channel: str, size: float, grade: str) -> str:
    """A sentence for people; `size` as in `Fault.magnitudes`."""
    texts = {
        FaultKind.LEVEL_SHIFT: f"{channel} jumps by {size:+.1f} sd",
        FaultKind.DRIFT: f"{channel} drifts away to {size:+.1f} sd",
        FaultKind.SPIKE_BURST: f"{channel} shows a burst of spikes of about {size:+.1f} sd",
        FaultKind.FROZEN_SENSOR: f"{channel} is frozen at its last value",
        FaultKind.NOISE_INCREASE: f"{channel} gets noisier, by {abs(size):.1f} times its normal noise",
        FaultKind.OSCILLATION: f"{channel} oscillates with an amplitude of {abs(size):.1f} sd",
        FaultKind.DROPOUT_TO_ZERO: f"{channel} drops to zero",
    }
    return texts[kind] if size == 0.0 else f"{texts[kind]} ({grade})"


def _make(
    kind: FaultKind,
    series: str,
    span: tuple[int, int],
    *,
    channels: Sequence[str],
    breaks: Sequence[RelationBreak],
    rng: np.random.Generator,
) -> Fault:
    """One fault of `kind` on channels and of a size drawn by `rng`, over the slots [span[0], span[1])."""
    grade = int(rng.integers(3))
    size = _SIZES[kind][grade]
    if kind is FaultKind.BROKEN_RELATION:
        broken = breaks[int(rng.integers(len(breaks)))]
        names = tuple(name for name, _ in broken.weights)
        sizes = tuple(weight * size for _, weight in broken.weights)
        text = f"{broken.description} ({size:.1f} sd, {_SIZE_NAMES[grade]})"
    else:
        size *= float(rng.choice([-1.0, 1.0]))
        names, sizes = (channels[int(rng.integers(len(channels)))],), (size,)
        text = _describe(kind, names[0], size, _SIZE_NAMES[grade])
    return Fault(kind, series, names, *span, magnitudes=sizes, description=text)


def schedule(
    seed: int,
    n_slots: int,
    faults_per_series: int,
    sensors: Mapping[str, Sequence[str]],
    breaks: Mapping[str, Sequence[RelationBreak]],
) -> tuple[Fault, ...]:
    """Faults over the live slots [0, n_slots), in order of series and time.

    Every series has its first fault within the first 6-12 % of the live part. What follows is cut into equal cells with
    one fault each; a fault takes at most 40 % of its cell and at least 35 % of the cell after it is normal. Kinds are
    dealt like cards, so that all of them occur before one comes again.
    """
    if faults_per_series < 0:
        raise ValueError(f"expected faults_per_series >= 0, found {faults_per_series}")
    rng = np.random.default_rng([seed, *b"schedule"])
    deck: list[FaultKind] = []
    faults: list[Fault] = []
    for series, channels in sensors.items():
        if faults_per_series == 0:
            continue
        first = int(rng.uniform(0.06, 0.12) * n_slots)
        cell = (n_slots - first) // faults_per_series
        if cell < _MIN_CELL_STEPS:
            need = int(np.ceil(_MIN_CELL_STEPS * faults_per_series / 0.88)) + 1
            raise ValueError(f"{faults_per_series} faults per series need at least {need} slots, found {n_slots}")
        for index in range(faults_per_series):
            if not deck:
                deck = [list(FaultKind)[int(i)] for i in rng.permutation(len(FaultKind))]
            kind = deck.pop()
            low, high = _LENGTHS_STEPS[kind]
            n = min(int(rng.integers(low, high + 1)), int(0.4 * cell))
            start = first + index * cell + (int(rng.uniform(0.0, 0.25) * cell) if index else 0)
            span = (start, start + n)
            faults.append(_make(kind, series, span, channels=channels, breaks=breaks[series], rng=rng))
    return tuple(faults)
