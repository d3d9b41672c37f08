"""What a route still has to send, and when: filters, groups, rate, quiet times, retries, and no duplicates."""

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


def send_due(box: Outbox, now_ns: int) -> Batch | None:
    """The message that leaves at that time; None = none may."""
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
        ({}, alert(state=AlertState.UPDATE), True),  # its first event
    ],
)
def test_a_route_filters_alerts(options: dict[str, Any], one: Alert, wanted: bool) -> None:
    box = outbox(**options)
    box.add(PLACE, 0, one, NOON_NS)
    assert box.waiting == wanted


def test_a_group_of_alerts_is_one_message_with_the_newest_states() -> None:
    box = outbox()
    first, second = alert(1), alert(2, "fan-2")
    box.add(PLACE, 0, first, NOON_NS)
    box.add(PLACE, 1, second, NOON_NS + 3 * S)
    box.add(PLACE, 2, resolved(first), NOON_NS + 5 * S)
    assert send_due(box, NOON_NS + 9 * S) is None
    batch = send_due(box, NOON_NS + 10 * S)
    assert batch is not None
    assert [(one.id, one.state) for one in batch.alerts] == [
        (first.id, AlertState.RESOLVED),
        (second.id, AlertState.OPEN),
    ]
    assert box.waiting == 0


def test_duplicate_events_are_ignored() -> None:
    box = outbox()
    box.add(PLACE, 0, alert(), NOON_NS)
    assert send_due(box, NOON_NS + 10 * S) is not None
    box.add(PLACE, 1, alert(), NOON_NS + 20 * S)
    assert box.waiting == 0
    box.add(PLACE, 2, resolved(alert()), NOON_NS + 30 * S)
    box.add(PLACE, 3, resolved(alert()), NOON_NS + 31 * S)
    assert box.waiting == 1


def test_an_alert_withdrawn_before_its_notification_is_not_sent() -> None:
    box = outbox()
    box.add(PLACE, 0, alert(), NOON_NS)
    back = alert(state=AlertState.WITHDRAWN, updated_ns=9 * S)
    box.add(PLACE, 1, back, NOON_NS + S)
    assert (box.waiting, box.due_ns(NOON_NS + 60 * S)) == (0, None)
    box.add(PLACE, 2, alert(2), NOON_NS + 70 * S)
    assert send_due(box, NOON_NS + 80 * S) is not None
    box.add(PLACE, 3, alert(2, state=AlertState.WITHDRAWN, updated_ns=9 * S), NOON_NS + 90 * S)
    assert box.waiting == 1


def test_a_rate_limits_messages_and_groups_the_rest() -> None:
    box = outbox(rate="2 per hour", group_wait="1ms")
    for number in range(5):
        box.add(PLACE, number, alert(number), NOON_NS + number * S)
        assert (send_due(box, NOON_NS + number * S + S // 2) is not None) == (number < 2)
    assert box.suppressed["rate"] == 3
    assert send_due(box, NOON_NS + 1700 * S) is None
    batch = send_due(box, NOON_NS + 1801 * S)
    assert batch is not None
    assert len(batch.alerts) == 3
    assert batch.suppressed == ("more messages than its rate",)


def test_a_mute_delays_messages() -> None:
    box = outbox(mute=("daily 12:00-13:00",))
    box.add(PLACE, 0, alert(), NOON_NS + 60 * S)
    assert box.due_ns(NOON_NS + 600 * S) == NOON_NS + 3600 * S
    batch = send_due(box, NOON_NS + 3600 * S)
    assert batch is not None
    assert batch.suppressed == ("the route was muted",)


def test_a_failed_message_is_retried_with_back_off_and_new_events() -> None:
    box = outbox(group_wait="1ms")
    box.add(PLACE, 7, alert(1), NOON_NS)
    now_ns, waits = NOON_NS + S, []
    for number in range(2, 14):
        box.begin()
        box.add(PLACE, 7 + number, alert(number), now_ns)
        box.failed(now_ns)
        due_ns = box.due_ns(now_ns)
        assert due_ns is not None
        waits.append((due_ns - now_ns) // S)
        assert box.next_offset(PLACE, 100) == 7  # a restart reads from the first unsent event
        now_ns = due_ns
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 300
    batch = send_due(box, now_ns)
    assert batch is not None
    assert len(batch.alerts) == 13
    assert box.next_offset(PLACE, 100) == 100
    assert box.due_ns(now_ns) is None


def test_retry_after_is_respected() -> None:
    box = outbox(group_wait="1ms")
    box.add(PLACE, 0, alert(), NOON_NS)
    box.begin()
    box.failed(NOON_NS, retry_after_ns=90 * S)
    assert box.due_ns(NOON_NS) == NOON_NS + 90 * S


@given(events=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["open", "resolved"]), st.booleans()), max_size=40))
def test_every_alert_is_sent_once_despite_failures(events: list[tuple[int, str, bool]]) -> None:
    """Each alert's states in order, with arbitrary repetitions and failures of the receiver."""
    box, now_ns, sent = outbox(group_wait="1ms", rate="10000 per 1s"), NOON_NS, []
    for offset, (number, state, works) in enumerate(events):
        one = alert(number) if state == "open" else resolved(alert(number))
        box.add(PLACE, offset, one, now_ns)
        now_ns += 400 * S
        if (due_ns := box.due_ns(now_ns)) is not None and due_ns <= now_ns:
            batch = box.begin()
            if works:
                sent += [(one.id, one.state) for one in batch.alerts]
                box.sent(now_ns)
            else:
                box.failed(now_ns)
    if (last := send_due(box, now_ns + 400 * S)) is not None:
        sent += [(one.id, one.state) for one in last.alerts]
    assert len(sent) == len(set(sent))
    final = {}
    for number, state, _ in events:
        final[number] = "resolved" if final.get(number) == "resolved" else state
    assert {(f"{n:024d}", s) for n, s in final.items()} <= {(i, s.value) for i, s in sent}
    assert box.waiting == 0
