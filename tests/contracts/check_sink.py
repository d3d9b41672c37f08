"""The Sink contract, seen through the readers: scores here, long ranges in check_sink_history, alerts,
statuses and dead letters in check_sink_alerts.

For a new adapter: `check_sink(make)` runs everything; `make()` returns a fresh SinkUnderTest for every check (it is
closed afterwards), whose readers see nothing under `promises.prefix` yet. A shared server: give every call its own
database, bucket or topic, or a `SinkPromises(prefix=<unique>)`. A reader that lags: `wait_s`. Or parametrize over
SINK_CHECKS, which names the promise that broke (then closing the sink is yours):

    @pytest.mark.parametrize("check", SINK_CHECKS, ids=lambda check: check.__name__)
    def test_influx_sink(check, influx):
        check(influx.target(), SinkPromises(prefix=influx.unique(), wait_s=5))
"""

from __future__ import annotations

from collections.abc import Callable

from stream_ad.records import Outputs
from tests.contracts.check_sink_alerts import ALERT_CHECKS
from tests.contracts.check_sink_history import HISTORY_CHECKS
from tests.support.sink_samples import (
    AWKWARD_NAMES,
    SinkPromises,
    SinkUnderTest,
    batch,
    eventually,
    expect_scores,
    rows_of,
    slots,
    write_scores,
)

__all__ = ["SINK_CHECKS", "SinkCheck", "SinkPromises", "SinkUnderTest", "check_sink"]

SinkCheck = Callable[[SinkUnderTest, SinkPromises], None]


def scores_come_back_exactly(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Nanoseconds, float64 scores, float32 arrays (subnormal and huge too), masked values, alert ids, revisions."""
    series = promises.name("s")
    first = batch(series, [promises.time_ns(i) for i in range(5)], seed=1, missing=True)
    second = batch(
        series, [promises.time_ns(i) for i in range(5, 8)], seed=2, alert_id="id, 1=2", revision=3, model_version="v 2"
    )
    write_scores(target, first, second)
    expect_scores(target, promises, series, first, second)


def scores_without_detail_have_no_channels(target: SinkUnderTest, promises: SinkPromises) -> None:
    """What tables and plots of long ranges read."""
    series = promises.name("slim")
    written = batch(series, [promises.time_ns(i) for i in range(4)], seed=3)
    write_scores(target, written)
    expect_scores(target, promises, series, written)
    if target.scores is None:
        return
    (slim,) = target.scores.scores(series, promises.time_ns(0), promises.time_ns(4), detail=False)
    assert slim.channels == ()
    assert slim.value.shape == (4, 0)
    assert slim.score.tolist() == written.score.tolist()


def writing_twice_leaves_one_copy(target: SinkUnderTest, promises: SinkPromises) -> None:
    """The same outputs again, whole and cut differently: what a restart does."""
    series = promises.name("s")
    times = [promises.time_ns(i) for i in range(6)]
    whole = batch(series, times, seed=3, missing=True)
    write_scores(target, whole)
    write_scores(target, whole, whole)
    tail = rows_of(whole, slice(3, None))
    write_scores(target, tail)
    expect_scores(target, promises, series, whole)


def a_higher_revision_replaces(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Late data: one slot of three again with revision 1, then 2, beside and inside one write."""
    series = promises.name("s")
    times = [promises.time_ns(i) for i in range(3)]
    old = batch(series, times, seed=4)
    write_scores(target, old, batch(series, times[1:2], seed=5, revision=1, alert_id="late"))
    newest = batch(series, times[1:2], seed=6, revision=2, model_version="v2")
    write_scores(target, newest)
    expect_scores(target, promises, series, rows_of(old, slice(0, 1)), newest, rows_of(old, slice(2, 3)))


def a_lower_revision_is_ignored(target: SinkUnderTest, promises: SinkPromises) -> None:
    """A replay writes revision 0 again after revision 2 was stored."""
    if not promises.keeps_newer:
        return
    series = promises.name("s")
    times = [promises.time_ns(i) for i in range(4)]
    old = batch(series, times, seed=7)
    newest = batch(series, times[2:3], seed=8, revision=2)
    write_scores(target, old)
    write_scores(target, newest)
    write_scores(target, old, batch(series, times[2:3], seed=9, revision=1))
    expect_scores(target, promises, series, rows_of(old, slice(0, 2)), newest, rows_of(old, slice(3, 4)))


def reading_is_in_time_order(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Written backwards and mixed with another series."""
    series, other = promises.name("s"), promises.name("s2")
    late = batch(series, [promises.time_ns(i) for i in range(10, 15)], seed=10)
    early = batch(series, [promises.time_ns(i) for i in range(5)], seed=11)
    beside = batch(other, [promises.time_ns(i) for i in range(3)], seed=12)
    write_scores(target, late, beside, early)
    expect_scores(target, promises, series, early, late)
    expect_scores(target, promises, other, beside)


def score_ranges_are_half_open(target: SinkUnderTest, promises: SinkPromises) -> None:
    series = promises.name("s")
    whole = batch(series, [promises.time_ns(i) for i in range(6)], seed=13)
    write_scores(target, whole)
    expect_scores(target, promises, series, whole)
    reader = target.scores
    if reader is None:
        return
    ranges = [
        (promises.time_ns(2), promises.time_ns(4), [2, 3]),
        (promises.time_ns(2) + 1, promises.time_ns(4) + 1, [3, 4]),
        (promises.time_ns(2), promises.time_ns(2) + 1, [2]),
        (promises.time_ns(2), promises.time_ns(2), []),
        (promises.time_ns(4), promises.time_ns(2), []),
        (promises.time_ns(6), promises.time_ns(9), []),
    ]
    for start, stop, rows in ranges:
        found = [time for time, _ in slots(reader.scores(series, start, stop))]
        assert found == [promises.time_ns(row) for row in rows], (start, stop)


def nothing_is_nothing(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Empty outputs and batches of no slots are taken and leave no trace; an unknown series is empty, not an error."""
    series = promises.name("never")
    target.sink.write(Outputs())
    write_scores(target, batch(series, []))
    if target.scores is not None:
        assert target.scores.scores(series, 0, promises.time_ns(1000)) == []
        assert target.scores.score_counts().get(series, 0) == 0


def awkward_names_come_back(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Series and channels named with commas, quotes, equals, backslashes, unicode: all apart, none mangled."""
    names = [promises.name(name) for name in AWKWARD_NAMES]
    written = {
        name: batch(name, [promises.time_ns(0), promises.time_ns(1)], AWKWARD_NAMES, seed=i, missing=True)
        for i, name in enumerate(names)
    }
    write_scores(target, *written.values())
    for name, one in written.items():
        expect_scores(target, promises, name, one)


def channels_may_change(target: SinkUnderTest, promises: SinkPromises) -> None:
    """A series that gains a channel, then has others: every slot comes back with its own."""
    series = promises.name("s")
    first = batch(series, [promises.time_ns(0), promises.time_ns(1)], ("a",), seed=14)
    second = batch(series, [promises.time_ns(2), promises.time_ns(3)], ("a", "b"), seed=15)
    third = batch(series, [promises.time_ns(4)], ("c", "b"), seed=16)
    write_scores(target, first, second)
    write_scores(target, third)
    expect_scores(target, promises, series, first, second, third)


def many_slots_come_back(target: SinkUnderTest, promises: SinkPromises) -> None:
    """More than one page of anything: 3,000 slots of one series in three writes."""
    series = promises.name("long")
    parts = [batch(series, [promises.time_ns(i) for i in range(k, k + 1000)], seed=k) for k in (0, 1000, 2000)]
    for part in parts:
        write_scores(target, part)
    expect_scores(target, promises, series, *parts)


def series_are_counted(target: SinkUnderTest, promises: SinkPromises) -> None:
    """score_counts knows every series written, also after a revision and a repeat."""
    names = [promises.name(f"n{i}") for i in range(20)]
    for i, name in enumerate(names):
        write_scores(target, batch(name, [promises.time_ns(k) for k in range(i + 1)], seed=i))
    write_scores(target, batch(names[4], [promises.time_ns(0)], seed=99, revision=1))
    reader = target.scores
    if reader is None:
        return

    def check() -> None:
        counts = reader.score_counts()
        assert {name: counts.get(name) for name in names} == {name: i + 1 for i, name in enumerate(names)}

    eventually(check, promises.wait_s)


SINK_CHECKS: tuple[SinkCheck, ...] = (
    scores_come_back_exactly,
    scores_without_detail_have_no_channels,
    writing_twice_leaves_one_copy,
    a_higher_revision_replaces,
    a_lower_revision_is_ignored,
    reading_is_in_time_order,
    score_ranges_are_half_open,
    nothing_is_nothing,
    awkward_names_come_back,
    channels_may_change,
    many_slots_come_back,
    series_are_counted,
    *HISTORY_CHECKS,
    *ALERT_CHECKS,
)


def check_sink(make: Callable[[], SinkUnderTest], promises: SinkPromises | None = None) -> None:
    """Every check over a fresh target each; with a shared store, `promises.prefix` gets the check's number appended."""
    given = promises or SinkPromises()
    for number, check in enumerate(SINK_CHECKS):
        target = make()
        try:
            check(target, SinkPromises(**{**vars(given), "prefix": f"{given.prefix}{number}"}))
        finally:
            target.sink.close()
