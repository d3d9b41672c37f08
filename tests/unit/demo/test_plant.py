"""The simulated plant: reproducible for any cut, physically consistent, correctly labelled."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ad.demo.plant import Fault, FaultKind, Plant

PUMP = "plant/pump-1"
NORMAL = Plant(11, past_slots=3000, live_slots=1000)


def column(plant: Plant, series: str, channel: str, first: int, n: int) -> np.ndarray:
    return plant.rows(series, first, n)[:, plant.channels(series).index(channel)]


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays differ; NaN equals NaN."""
    return ~((a == b) | (np.isnan(a) & np.isnan(b)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[both], b[both])[0, 1])


@pytest.mark.parametrize("series", NORMAL.series)
def test_rows_do_not_depend_on_the_cut_or_on_the_instance(series: str) -> None:
    whole = NORMAL.rows(series, -3000, 4000)
    cuts = [(-3000, 1), (-2999, 2500), (-499, 700), (201, 799)]
    again = Plant(11, past_slots=3000, live_slots=1000)
    pieces = [again.rows(series, first, n) for first, n in cuts]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert whole.shape == (4000, len(NORMAL.channels(series)))
    assert changed(Plant(12, past_slots=3000, live_slots=1000).rows(series, -3000, 4000), whole).mean() > 0.9


@pytest.mark.parametrize("series", NORMAL.series)
def test_a_longer_run_begins_with_the_shorter_one(series: str) -> None:
    longer = Plant(11, past_slots=3000, live_slots=1500)
    # A block of missing readings that starts in the shorter run is the same in the longer one, up to its end.
    np.testing.assert_array_equal(longer.rows(series, -3000, 4000), NORMAL.rows(series, -3000, 4000))


def test_rows_are_a_copy() -> None:
    NORMAL.rows(PUMP, 0, 10)[:] = 0.0
    assert np.nanmin(column(NORMAL, PUMP, "speed_rpm", 0, 10)) > 500


@pytest.mark.parametrize("series", NORMAL.series)
def test_missing_readings_come_single_and_in_blocks(series: str) -> None:
    gone = np.isnan(Plant(3, past_slots=20_000, live_slots=0).rows(series, -20_000, 20_000))
    assert 0.005 < gone.mean() < 0.03
    for mask in gone.T:
        edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(int), [0]))))
        lengths = edges[1::2] - edges[::2]
        assert (lengths == 1).sum() > 20
        assert (lengths >= 3).sum() > 5
        assert lengths.max() <= 30
    assert gone.all(axis=1).any(), "blocks in which the whole series is missing"


@pytest.mark.parametrize("series", ["plant/pump-1", "plant/pump-2"])
def test_the_pump_obeys_its_laws(series: str) -> None:
    speed, flow, pressure, power = (
        column(NORMAL, series, name, -2800, 3800) for name in ("speed_rpm", "flow_m3h", "pressure_bar", "power_kw")
    )
    assert correlation(flow, speed) > 0.9
    assert correlation(pressure, speed**2) > 0.95
    assert correlation(power, flow * pressure) > 0.98
    temperature = column(NORMAL, series, "temperature_c", -2800, 3800)
    at_once, later = correlation(temperature, power), correlation(temperature[60:], power[:-60])
    assert later > at_once + 0.05, "temperature follows power with a lag"
    vibration = column(NORMAL, series, "vibration_mms", -2800, 3800)
    assert np.nanmean(vibration[speed > np.nanquantile(speed, 0.8)]) > 1.2 * np.nanmean(
        vibration[speed < np.nanquantile(speed, 0.2)]
    )


def test_the_furnace_follows_its_set_point() -> None:
    setpoint, temperature, gas, draft, oxygen = NORMAL.rows("plant/furnace", -2800, 3800).T
    assert correlation(temperature[10:], setpoint[:-10]) > 0.97
    assert correlation(gas, temperature) > 0.6
    assert correlation(draft, gas) < -0.3, "more gas, more draft (a lower pressure)"
    assert 0.5 < np.nanmin(oxygen) < np.nanmax(oxygen) < 8.0


def test_every_operating_point_is_in_the_past() -> None:
    for seed in range(5):
        plant = Plant(seed, past_slots=2400, live_slots=2400)
        for series, channel, edges in ((PUMP, "speed_rpm", (1300, 1600)), ("plant/furnace", "setpoint_c", (865, 945))):
            past = column(plant, series, channel, -2400, 2400)
            counts = np.histogram(past[np.isfinite(past)], bins=[0, *edges, 1e9])[0]
            assert counts.min() >= 100, (seed, series)
            live = column(plant, series, channel, 0, 2400)
            assert np.nanstd(live) > 0, "the live part changes too"


def one_fault(kind: FaultKind, size: float = 2.0, channel: str = "power_kw") -> Fault:
    return Fault(kind, PUMP, (channel,), 200, 300, (size,), "test")


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_changes_its_channel_in_its_slots_and_nothing_else(kind: FaultKind) -> None:
    fault = one_fault(kind)
    plant = Plant(11, past_slots=3000, live_slots=1000, faults=[fault])
    for series in plant.series:
        different = changed(plant.rows(series, -3000, 4000), NORMAL.rows(series, -3000, 4000))
        where = np.zeros_like(different)
        if series == PUMP:
            where[3200:3300, plant.channels(PUMP).index("power_kw")] = True
            assert different[where].mean() > (0.08 if kind is FaultKind.SPIKE_BURST else 0.9)
        assert not different[~where].any()


def effect(kind: FaultKind, size: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Readings of power with one fault in slots 200..299, what the fault added, and the channel's sd."""
    plant = Plant(11, past_slots=3000, live_slots=1000, faults=[one_fault(kind, size)])
    clean = column(NORMAL, PUMP, "power_kw", 200, 100)
    faulty = column(plant, PUMP, "power_kw", 200, 100)
    here = np.isfinite(clean)
    return faulty[here], (faulty - clean)[here], float(np.nanstd(column(NORMAL, PUMP, "power_kw", -3000, 3000)))


def test_each_kind_has_its_effect_in_its_size() -> None:
    _, added, sd = effect(FaultKind.LEVEL_SHIFT, 2.0)
    np.testing.assert_allclose(added, 2.0 * sd, rtol=0.02)
    _, added, sd = effect(FaultKind.DRIFT, 3.0)
    assert added[0] < 0.1 * sd
    assert added[-1] == pytest.approx(3.0 * sd, rel=0.02)
    assert (np.diff(added) > -0.02).all()
    _, added, sd = effect(FaultKind.SPIKE_BURST, 3.0)
    assert 5 <= (added > 1.5 * sd).sum() <= 40
    assert (np.abs(added) < 0.02).sum() >= 50
    faulty, _, _ = effect(FaultKind.FROZEN_SENSOR, 0.0)
    assert np.ptp(faulty) == 0.0
    faulty, _, _ = effect(FaultKind.DROPOUT_TO_ZERO, 0.0)
    assert (faulty == 0.0).all()
    _, added, _ = effect(FaultKind.NOISE_INCREASE, 4.0)
    assert added.std() == pytest.approx(4.0 * 0.0003 * 120.0 * 6.0, rel=0.25)
    assert abs(added.mean()) < added.std()
    _, added, sd = effect(FaultKind.BROKEN_RELATION, 2.0)
    assert added[-50:].mean() == pytest.approx(2.0 * sd, rel=0.03)
    _, added, sd = effect(FaultKind.OSCILLATION, 1.0)
    assert np.abs(added).max() == pytest.approx(sd, rel=0.1)
    assert abs(added.mean()) < 0.2 * sd
    assert (np.diff(np.sign(added)) != 0).sum() >= 8


def test_a_leak_breaks_the_relation_and_leaves_the_speed() -> None:
    leak = Fault(FaultKind.BROKEN_RELATION, PUMP, ("flow_m3h", "pressure_bar"), 100, 200, (-1.0, -0.5), "leak")
    plant = Plant(11, past_slots=3000, live_slots=1000, faults=[leak])

    def flow_per_speed(which: Plant) -> float:
        flow, speed = (column(which, PUMP, name, 130, 70) for name in ("flow_m3h", "speed_rpm"))
        return float(np.nanmean(flow / speed))

    assert flow_per_speed(plant) < 0.95 * flow_per_speed(NORMAL)
    np.testing.assert_array_equal(column(plant, PUMP, "speed_rpm", 0, 500), column(NORMAL, PUMP, "speed_rpm", 0, 500))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n_slots", "count"), [(4000, 5), (1200, 3), (600, 8), (3000, 1)])
def test_the_schedule_has_an_early_fault_gaps_and_true_labels(seed: int, n_slots: int, count: int) -> None:
    plant = Plant.live(seed, n_slots, count, past_slots=1500)
    normal = Plant(seed, past_slots=1500, live_slots=n_slots)
    for series in plant.series:
        faults = [fault for fault in plant.faults if fault.series == series]
        assert len(faults) == count
        assert 0.05 * n_slots < faults[0].start_slot <= 0.12 * n_slots
        for before, after in zip(faults, [*faults[1:], None], strict=True):
            gap = (after.start_slot if after else n_slots) - before.end_slot
            assert gap >= 0.3 * (n_slots - faults[0].start_slot) / count
        labelled = np.zeros((1500 + n_slots, len(plant.channels(series))), dtype=bool)
        different = changed(plant.rows(series, -1500, 1500 + n_slots), normal.rows(series, -1500, 1500 + n_slots))
        for fault in faults:
            for channel in fault.channels:
                where = (
                    slice(1500 + fault.start_slot, 1500 + fault.end_slot),
                    plant.channels(series).index(channel),
                )
                labelled[where] = True
                assert different[where].mean() > 0.08, fault
        assert not different[~labelled].any()
        assert "setpoint_c" not in {channel for fault in faults for channel in fault.channels}


def test_the_schedule_has_every_kind_and_is_reproducible() -> None:
    plant = Plant.live(5, 4000, 3)
    assert {fault.kind for fault in plant.faults} == set(FaultKind)
    assert plant.faults == Plant.live(5, 4000, 3).faults
    assert plant.faults != Plant.live(6, 4000, 3).faults
    assert Plant.live(5, 4000, 0).faults == ()


def test_time_is_the_step_times_the_slot() -> None:
    plant = Plant(1, 0.5, past_slots=10, live_slots=10)
    assert plant.time_ns(0, 1_000) == 1_000
    assert plant.time_ns(-3, 10**10) == 10**10 - 1_500_000_000


def test_invalid_slots_and_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="within"):
        NORMAL.rows(PUMP, 999, 2)
    with pytest.raises(ValueError, match="within"):
        NORMAL.rows(PUMP, -3001, 2)
    with pytest.raises(ValueError, match="at least"):
        Plant.live(1, 100, 5)
