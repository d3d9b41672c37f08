"""Waits between retries: doubling, the cap, a pause that the dependency asks for, and the reset."""

from __future__ import annotations

from stream_ad.backoff import Backoff


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(1, 300)
    assert [backoff.next_wait() for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_requested_pause_lengthens_one_wait_only() -> None:
    backoff = Backoff(0.5, 15.0)
    assert backoff.next_wait(90.0) == 90.0
    assert backoff.next_wait() == 1.0
    assert backoff.next_wait(0.1) == 2.0


def test_a_success_resets_the_wait() -> None:
    backoff = Backoff(0.5, 15.0)
    backoff.next_wait()
    backoff.reset()
    assert backoff.next_wait() == 0.5


def test_endless_failures_stay_at_the_cap() -> None:
    backoff = Backoff(1_000_000_000, 300_000_000_000, failures=10_000)
    assert backoff.next_wait() == 300_000_000_000
