"""The faults bench: faults change only what their labels say, and the budget of false episodes is kept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.lib.episodes import Scored, count_episodes, find_faults, threshold_at
from benchmarks.lib.fault_kinds import KINDS, STRENGTHS, Fault, fault_schedule, put, robust_sd


def rows(n: int = 4000, channels: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.cumsum(rng.standard_normal((n, channels)), axis=0) * 0.1 + 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_changes_its_channels_in_its_rows_and_nothing_else(kind: str) -> None:
    clean = rows()
    channels = (1, 2) if kind == "swap" else (1,)
    fault = Fault(kind, 3.0, 1000, 1100, channels)
    faulty = put(np.random.default_rng(1), clean, [fault], robust_sd(clean))
    changed = faulty != clean
    assert changed[1000:1100, list(channels)].mean() > 0.1
    changed[1000:1100, list(channels)] = False
    assert not changed.any()


def test_a_schedule_deals_each_card_once_and_leaves_room_between() -> None:
    deck = [(kind, strength) for kind in KINDS for strength in STRENGTHS]
    left = list(deck)
    faults = fault_schedule(np.random.default_rng(2), 6000, np.arange(4), left)
    assert len(faults) + len(left) == len(deck)
    assert all(later.start - earlier.stop >= 250 for earlier, later in pairwise(faults))


def test_the_threshold_keeps_the_budget_and_is_the_lowest_that_does() -> None:
    rng = np.random.default_rng(3)
    clean = [rng.exponential(size=5000) for _ in range(2)]
    threshold = threshold_at(clean, 1000)
    assert count_episodes(clean, threshold) <= 10
    assert count_episodes(clean, 0.9 * threshold) > 10


def test_what_is_said_of_a_found_fault() -> None:
    score, attribution = np.zeros(1000), np.zeros((1000, 2))
    score[310:360], score[450:455], attribution[:, 1] = 2.0, 2.0, 1.0
    faults = [Fault("level", 3.0, 300, 350, (1,)), Fault("level", 3.0, 700, 750, (0,))]
    first, second = find_faults(Scored(score, attribution), faults, 1.0)
    assert (first.found, first.fresh, first.channel_right, first.delay, first.lingers) == (True, True, True, 10, True)
    assert first.late == 10
    assert not second.found
