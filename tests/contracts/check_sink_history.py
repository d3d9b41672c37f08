"""The Sink contract, part two: long ranges by their extent, in pages, and as the thinned line of a plot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stream_ad.errors import DataError
from stream_ad.records import ScoreBatch, ScoreExtent
from tests.reference.history import expect_trace
from tests.support.sink_samples import (
    AWKWARD_NAMES,
    FAR_NS,
    SinkPromises,
    SinkUnderTest,
    batch,
    eventually,
    slots,
    write_scores,
)

__all__ = ["HISTORY_CHECKS"]


def scores_of(*batches: ScoreBatch) -> dict[int, float]:
    """Time -> score of the slots that have one."""
    pairs = [(int(t), float(s)) for one in batches for t, s in zip(one.event_time_ns, one.score, strict=True)]
    return {time_ns: score for time_ns, score in pairs if not np.isnan(score)}


def an_extent_describes_the_stored_slots(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Slots counted, with and without a score, between half-open bounds; None where there is nothing."""
    if target.scores is None:
        return
    reader, series = target.scores, promises.name("extent")
    written = batch(series, [promises.time_ns(i) for i in (0, 1, 5, 9)], seed=1)
    written.score[1] = np.nan
    write_scores(target, written, batch(promises.name("extent 2"), [promises.time_ns(50)]))

    def check() -> None:
        assert reader.score_extent(series, 0, FAR_NS) == ScoreExtent(4, promises.time_ns(0), promises.time_ns(9))
        inside = reader.score_extent(series, promises.time_ns(1), promises.time_ns(9))
        assert inside == ScoreExtent(2, promises.time_ns(1), promises.time_ns(5))

    eventually(check, promises.wait_s)
    assert reader.score_extent(series, promises.time_ns(2), promises.time_ns(5)) is None
    assert reader.score_extent(series, promises.time_ns(5), promises.time_ns(5)) is None
    assert reader.score_extent(promises.name("never"), 0, FAR_NS) is None


def pages_hold_the_same_as_scores(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Many pages of anything, with a long gap and channels that change, with and without detail."""
    if target.scores is None:
        return
    reader, series = target.scores, promises.name("pages")
    near = [promises.time_ns(i) for i in range(22_000)]
    far = [promises.time_ns(10_000_000 + 7 * i) for i in range(3_000)]
    write_scores(target, batch(series, near[:11_000], ("a",)), batch(series, near[11_000:], ("a",), seed=1))
    write_scores(target, batch(series, far, ("a", "b"), seed=2))
    for detail in (False, True):
        whole = reader.scores(series, near[3], far[-1], detail=detail)
        paged = list(reader.score_pages(series, near[3], far[-1], detail=detail))
        assert slots(paged) == slots(whole)
        assert [time_ns for time_ns, _ in slots(whole)] == [*near[3:], *far[:-1]]
        assert max(map(len, paged)) < len(near)
    assert list(reader.score_pages(series, far[-1] + 1, FAR_NS)) == []


def a_trace_keeps_the_peaks(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Regular slots, gaps, slots without a score, equal scores; few points and many."""
    if target.scores is None:
        return
    reader, series = target.scores, promises.name("trace")
    random = np.random.default_rng(0)
    places = np.flatnonzero(random.random(6000) < 0.7)
    places = places[(places < 2000) | (places > 3500)]
    written = batch(series, [promises.time_ns(int(i)) for i in places], ("a",), seed=3)
    written.score[random.random(len(written)) < 0.1] = np.nan
    written.score[100:200] = 0.25
    written.score[1234] = 50.0
    write_scores(target, written, batch(promises.name("trace 2"), [promises.time_ns(i) for i in range(50)], seed=4))
    scores = scores_of(written)
    spans = [(0, 10_000), (17, 3001), (90, 210)]
    for start_ns, stop_ns in [(promises.time_ns(first), promises.time_ns(stop) + 1) for first, stop in spans]:
        inside = {t: s for t, s in scores.items() if start_ns <= t < stop_ns}
        for max_points in (2, 3, 10, 777, len(inside) - 1, len(inside), 10_000):
            found = reader.score_trace(series, start_ns, stop_ns, max_points=max_points)
            assert found.series == series
            assert (found.event_time_ns.dtype, found.score.dtype) == (np.int64, np.float64)
            expect_trace(found, inside, max_points)


def a_trace_of_little(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Nothing, one slot, a revised slot, no room."""
    if target.scores is None:
        return
    reader, series = target.scores, promises.name("little")
    one = batch(series, [promises.time_ns(3)], seed=5)
    write_scores(target, one)
    expect_trace(reader.score_trace(series, 0, FAR_NS, max_points=2), scores_of(one), 2)
    newer = batch(series, [promises.time_ns(i) for i in (3, 4, 4000)], seed=6, revision=1)
    write_scores(target, newer)
    expect_trace(reader.score_trace(series, 0, FAR_NS, max_points=2), scores_of(newer), 2)
    for nobody, start_ns, stop_ns in ((promises.name("never"), 0, FAR_NS), (series, FAR_NS, 0), (series, 0, 0)):
        nothing = reader.score_trace(nobody, start_ns, stop_ns, max_points=10)
        assert (nothing.slots, len(nothing), nothing.event_time_ns.dtype) == (0, 0, np.int64)
    with pytest.raises(DataError, match="at least 2, found 1"):
        reader.score_trace(series, 0, FAR_NS, max_points=1)


def awkward_names_have_their_own_history(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Names with quotes, commas and pieces of queries find their own slots, and nobody else's."""
    if target.scores is None:
        return
    reader = target.scores
    names = [promises.name(f"{name} of history") for name in AWKWARD_NAMES]
    times = [promises.time_ns(i) for i in range(20)]
    written = {name: batch(name, times[: 5 + i], ("a",), seed=i) for i, name in enumerate(names) if i < 15}
    write_scores(target, *written.values())
    for name, one in written.items():
        expect_trace(reader.score_trace(name, 0, FAR_NS, max_points=4), scores_of(one), 4)
        assert reader.score_extent(name, 0, FAR_NS) == ScoreExtent(len(one), times[0], int(one.event_time_ns[-1]))
        assert slots(list(reader.score_pages(name, 0, FAR_NS, detail=False))) == slots([one], detail=False)
    for forged in ('" or true or r.series == "', "' OR 1=1 --", "${series}", ".*"):
        assert reader.score_extent(forged, 0, FAR_NS) is None
        assert reader.score_trace(forged, 0, FAR_NS, max_points=4).slots == 0
        assert list(reader.score_pages(forged, 0, FAR_NS)) == []


HISTORY_CHECKS: tuple[Callable[[SinkUnderTest, SinkPromises], None], ...] = (
    an_extent_describes_the_stored_slots,
    pages_hold_the_same_as_scores,
    a_trace_keeps_the_peaks,
    a_trace_of_little,
    awkward_names_have_their_own_history,
)
