"""Injected anomalies: only where the label is, seeded, and of their kind."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lib.injection import CONTEXTUAL, KINDS, inject, moving_channels
from stream_ad.errors import DataError

STEPS, CHANNELS = 1200, 12


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Noisy waves of several periods, a copy of the first, a binary channel, a constant, and missing readings."""
    rng = np.random.default_rng(5)
    time = np.arange(STEPS)
    waves = [np.sin(2 * np.pi * time / period) for period in (20, 33, 47, 60, 75, 90, 110, 130, 160)]
    columns = [wave + 0.1 * rng.standard_normal(STEPS) for wave in waves]
    columns += [columns[0] + 0.05 * rng.standard_normal(STEPS), (time // 100) % 2, np.full(STEPS, 3.0)]
    out = np.stack(columns, axis=1).astype(np.float32)
    out[rng.random(out.shape) < 0.05] = np.nan
    return out


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_segment_and_the_channels_named_change(rows: np.ndarray, kind: str, seed: int) -> None:
    before = rows.copy()
    changed, label, channels = inject(np.random.default_rng(seed), rows, kind)
    assert np.array_equal(rows, before, equal_nan=True)
    assert changed.dtype == np.float32
    different = ~((changed == rows) | (np.isnan(changed) & np.isnan(rows)))
    assert not different[~label].any()
    assert not different[:, ~channels].any()
    assert different[:, channels].any(axis=0).all()
    assert np.array_equal(np.isnan(changed), np.isnan(rows))
    bounds = np.flatnonzero(np.diff(label.astype(int), prepend=0, append=0))
    assert len(bounds) == 2
    shortest, longest = (1, 3) if kind == "spike" else (8, 200)
    assert shortest <= bounds[1] - bounds[0] <= longest
    assert 1 <= channels.sum() <= 2  # a quarter of ten that move
    assert not channels[10:].any()  # neither the binary channel nor the constant


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_anomaly_another_seed_another(rows: np.ndarray, kind: str) -> None:
    first, again, other = (inject(np.random.default_rng(seed), rows, kind) for seed in (1, 1, 2))
    assert np.array_equal(first.rows, again.rows, equal_nan=True)
    assert np.array_equal(first.label, again.label)
    assert np.array_equal(first.channels, again.channels)
    assert not np.array_equal(first.rows, other.rows, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_segment_lies_within_the_given_rows(rows: np.ndarray, kind: str) -> None:
    for seed in range(10):
        label = inject(np.random.default_rng(seed), rows, kind, within=(300, 420), lengths=(10, 40)).label
        at = np.flatnonzero(label)
        assert at[0] >= 300
        assert at[-1] < 420
        assert kind == "spike" or 10 <= len(at) <= 40


def segment(rows: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Old and new readings of the first changed channel, and the segment's start."""
    changed, label, channels = inject(np.random.default_rng(seed), rows, kind)
    channel = int(np.flatnonzero(channels)[0])
    return rows[label, channel], changed[label, channel], int(np.flatnonzero(label)[0])


@pytest.fixture(scope="module")
def whole(rows: np.ndarray) -> np.ndarray:
    return np.nan_to_num(rows)


def test_a_level_moves_by_one_size(whole: np.ndarray) -> None:
    old, new, _ = segment(whole, "level", 0)
    moved = new - old
    assert np.ptp(moved) < 1e-4
    assert 0.5 * 0.6 < abs(moved[0]) < 3 * 1.1


def test_a_drift_begins_small_and_grows_evenly(whole: np.ndarray) -> None:
    old, new, _ = segment(whole, "drift", 0)
    moved = new - old
    assert np.abs(np.diff(moved) - moved[0]).max() < 1e-4
    assert moved[-1] == pytest.approx(moved[0] * len(moved), rel=1e-3)


def test_speed_plays_a_segment_faster_or_slower() -> None:
    saw = (np.arange(STEPS, dtype=np.float32) % 60)[:, None]
    faster = set()
    for seed in range(8):
        _, new, _ = segment(saw, "speed", seed)
        pace = float(np.median(np.diff(new)))
        assert 1.29 < max(pace, 1 / pace) < 3.01
        faster.add(pace > 1)
    assert faster == {True, False}


def test_correlation_shifts_one_coupled_channel(whole: np.ndarray) -> None:
    for seed in range(6):
        changed, label, channels = inject(np.random.default_rng(seed), whole, "correlation")
        assert list(np.flatnonzero(channels)) in ([0], [9])
        at = np.flatnonzero(label)
        channel = int(np.flatnonzero(channels)[0])
        found = [
            shift
            for shift in range(-100, 101)
            if at[0] + shift >= 0
            and at[-1] + shift < STEPS
            and np.array_equal(changed[at, channel], whole[at + shift, channel])
        ]
        assert len(found) == 1
        assert 4 <= abs(found[0]) <= 100


def test_a_segment_is_other_rows_of_all_its_channels_at_once(whole: np.ndarray) -> None:
    for seed in range(6):
        changed, label, channels = inject(np.random.default_rng(seed), whole, "segment")
        length = int(label.sum())
        piece = changed[label][:, channels]
        places = [at for at in range(STEPS - length + 1) if np.array_equal(whole[at : at + length][:, channels], piece)]
        assert len(places) == 1
        assert abs(places[0] - np.flatnonzero(label)[0]) >= length


def test_a_flat_segment_keeps_its_first_reading(rows: np.ndarray) -> None:
    old, new, _ = segment(rows, "flat", 3)
    seen = ~np.isnan(old)
    assert (new[seen] == old[seen][0]).all()


def test_noise_adds_variance_and_spikes_stand_far_off(whole: np.ndarray) -> None:
    old, new, _ = segment(whole, "noise", 0)
    assert np.abs(np.diff(new - old)).min() > 0
    old, new, _ = segment(whole, "spike", 0)
    assert np.abs(new - old).min() > 3 * 0.6


def test_flags_move_only_where_nothing_else_does(rows: np.ndarray) -> None:
    assert np.flatnonzero(moving_channels(rows)).tolist() == list(range(10))
    assert np.flatnonzero(moving_channels(rows[:, 10:])).tolist() == [0]


def test_what_cannot_be_done_is_refused(rows: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected one of"):
        inject(rng, rows, "nothing")
    with pytest.raises(DataError, match="expected room for 8 steps"):
        inject(rng, rows[:20], "level")
    with pytest.raises(DataError, match="expected a channel that moves"):
        inject(rng, rows[:, 11:], "level")
    hardly = np.repeat(np.arange(3, dtype=np.float32), 400)[:, None]
    with pytest.raises(DataError, match="expected a change"):
        inject(rng, hardly, "flat", within=(10, 300))


def test_contextual_kinds_are_kinds() -> None:
    assert set(CONTEXTUAL) < set(KINDS)
