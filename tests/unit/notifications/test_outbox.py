"""What a route still has to tell, and when: filters, groups, rate, quiet times, retries, and nothing told twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.notifications.outbox import Batch, Outbox
from stream_ad.records import Alert, AlertState
from stream_ad.settings import NotifyRoute

S = 1_000_000_000
NOON_NS = 1_767_268_800 * S  # 2026-01-01T12:00:00Z, a Thursday
PLACE = ("alerts", 0)


def alert(number: int = 1, series: str = "pump-1", **changes: Any) -> Alert:
    whole = Alert(f"{number:024d}", series, "threshold", AlertState.OPEN, 0, 0, 0, None, 0, 1.5, 0, (), "m")
    return replace(whole, **changes)


def outbox(**options: Any) -> Outbox:
    return Outbox(NotifyRoute(**{"name": "team", "group_wait": "10s", **options}))


def resolved(one: Alert) -> Alert:
    return replace(one, state=AlertState.RESOLVED, end_ns=50 * S, updated_ns=60 * S, revision=1)


def told(box: Outbox, now_ns: int) -> Batch | None:
    """What goes out at that time, None = nothing may."""
    due_ns = box.due_ns(now_ns)
    if due_ns is None or due_ns > now_ns:
        return None
    batch = box.begin()
    box.sent(now_ns)
    return batch


@pytest.mark.parametrize(
    ("options", "one", "wanted"),
    [
        ({}, alert(), True),
        ({"series": ("pump-*",)}, alert(), True),
        ({"series": ("fan-*", "oven")}, alert(), False),
        ({"min_severity": "critical"}, alert(), False),
        ({"min_severity": "critical"}, alert(peak_score=2.5), True),
        ({"rules": ("silent",)}, alert(), False),
        ({"rules": ("silent",)}, alert(rule="silent"), True),
        ({"states": ("resolved",)}, alert(), False),
        ({}, alert(state=AlertState.UPDATE), True),  # the first that is heard of it
    ],
)
def test_a_route_takes_what_is_its_own(options: dict[str, Any], one: Alert, wanted: bool) -> None:
    box = outbox(**options)
    box.take(PLACE, 0, one, NOON_NS)
    assert box.waiting == wanted


def test_alerts_that_come_together_are_one_message_of_their_newest_states() -> None:
    box = outbox()
    first, second = alert(1), alert(2, "fan-2")
    box.take(PLACE, 0, first, NOON_NS)
    box.take(PLACE, 1, second, NOON_NS + 3 * S)
    box.take(PLACE, 2, resolved(first), NOON_NS + 5 * S)
    assert told(box, NOON_NS + 9 * S) is None
    batch = told(box, NOON_NS + 10 * S)
    assert batch is not None
    assert [(one.id, one.state) for one in batch.alerts] == [
        (first.id, AlertState.RESOLVED),
        (second.id, AlertState.OPEN),
    ]
    assert box.waiting == 0


def test_what_was_told_is_not_told_again_when_it_comes_again() -> None:
    box = outbox()
    box.take(PLACE, 0, alert(), NOON_NS)
    assert told(box, NOON_NS + 10 * S) is not None
    box.take(PLACE, 1, alert(), NOON_NS + 20 * S)
    assert box.waiting == 0
    box.take(PLACE, 2, resolved(alert()), NOON_NS + 30 * S)
    box.take(PLACE, 3, resolved(alert()), NOON_NS + 31 * S)
    assert box.waiting == 1


def test_an_alert_taken_back_before_anyone_heard_of_it_is_not_told() -> None:
    box = outbox()
    box.take(PLACE, 0, alert(), NOON_NS)
    back = alert(state=AlertState.WITHDRAWN, updated_ns=9 * S)
    box.take(PLACE, 1, back, NOON_NS + S)
    assert (box.waiting, box.due_ns(NOON_NS + 60 * S)) == (0, None)
    box.take(PLACE, 2, alert(2), NOON_NS + 70 * S)
    assert told(box, NOON_NS + 80 * S) is not None
    box.take(PLACE, 3, alert(2, state=AlertState.WITHDRAWN, updated_ns=9 * S), NOON_NS + 90 * S)
    assert box.waiting == 1


def test_a_rate_lets_so_many_go_at_once_and_sums_up_the_rest() -> None:
    box = outbox(rate="2 per hour", group_wait="1ms")
    for number in range(5):
        box.take(PLACE, number, alert(number), NOON_NS + number * S)
        assert (told(box, NOON_NS + number * S + S // 2) is not None) == (number < 2)
    assert box.held_back["rate"] == 3
    assert told(box, NOON_NS + 1700 * S) is None
    batch = told(box, NOON_NS + 1801 * S)
    assert batch is not None
    assert len(batch.alerts) == 3
    assert batch.held == ("more messages than its rate",)


def test_quiet_times_are_waited_for() -> None:
    box = outbox(mute=("daily 12:00-13:00",))
    box.take(PLACE, 0, alert(), NOON_NS + 60 * S)
    assert box.due_ns(NOON_NS + 600 * S) == NOON_NS + 3600 * S
    batch = told(box, NOON_NS + 3600 * S)
    assert batch is not None
    assert batch.held == ("the route was muted",)


def test_a_failure_is_tried_again_later_and_later_with_what_came_meanwhile() -> None:
    box = outbox(group_wait="1ms")
    box.take(PLACE, 7, alert(1), NOON_NS)
    now_ns, waits = NOON_NS + S, []
    for number in range(2, 14):
        box.begin()
        box.take(PLACE, 7 + number, alert(number), now_ns)
        box.failed(now_ns)
        due_ns = box.due_ns(now_ns)
        assert due_ns is not None
        waits.append((due_ns - now_ns) // S)
        assert box.next_offset(PLACE, 100) == 7  # a restart reads from the first that is not told
        now_ns = due_ns
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 300
    batch = told(box, now_ns)
    assert batch is not None
    assert len(batch.alerts) == 13
    assert box.next_offset(PLACE, 100) == 100
    assert box.due_ns(now_ns) is None


def test_a_receiver_that_asks_for_time_gets_it() -> None:
    box = outbox(group_wait="1ms")
    box.take(PLACE, 0, alert(), NOON_NS)
    box.begin()
    box.failed(NOON_NS, retry_after_ns=90 * S)
    assert box.due_ns(NOON_NS) == NOON_NS + 90 * S


@given(events=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["open", "resolved"]), st.booleans()), max_size=40))
def test_whatever_fails_every_alert_is_told_once_in_the_end(events: list[tuple[int, str, bool]]) -> None:
    """Each alert's states in their order, repeated at will; receivers that fail at will."""
    box, now_ns, observe_end_offset = outbox(group_wait="1ms", rate="10000 per 1s"), NOON_NS, []
    for offset, (number, state, works) in enumerate(events):
        one = alert(number) if state == "open" else resolved(alert(number))
        box.take(PLACE, offset, one, now_ns)
        now_ns += 400 * S
        if (due_ns := box.due_ns(now_ns)) is not None and due_ns <= now_ns:
            batch = box.begin()
            if works:
                observe_end_offset += [(one.id, one.state) for one in batch.alerts]
                box.sent(now_ns)
            else:
                box.failed(now_ns)
    if (last := told(box, now_ns + 400 * S)) is not None:
        observe_end_offset += [(one.id, one.state) for one in last.alerts]
    assert len(observe_end_offset) == len(set(observe_end_offset))
    final = {}
    for number, state, _ in events:
        final[number] = "resolved" if final.get(number) == "resolved" else state
    assert {(f"{n:024d}", s) for n, s in final.items()} <= {(i, s.value) for i, s in observe_end_offset}
    assert box.waiting == 0
