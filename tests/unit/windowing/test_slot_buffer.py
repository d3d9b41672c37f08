"""The slot buffer against a plain table of slots, for any order of writes, drops and reads."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.windowing.slot_buffer import SlotBuffer

READING = st.one_of(st.floats(-1e3, 1e3, width=32), st.just(float("nan")))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 400), st.lists(READING, min_size=2, max_size=2)),
        st.tuples(st.just("put_all"), st.integers(0, 200), st.lists(st.integers(1, 90), min_size=1, max_size=6)),
        st.tuples(st.just("drop"), st.integers(0, 500), st.none()),
        st.tuples(st.just("read"), st.integers(-70, 500), st.integers(0, 300)),
        st.tuples(st.just("swap"), st.none(), st.none()),
    ),
    max_size=25,
)


@given(base=st.one_of(st.integers(0, 150), st.just(10**14)), steps=STEPS)  # a producer may send nanoseconds as seconds
def test_the_buffer_behaves_like_a_table_of_slots(base: int, steps: list[tuple[str, int, object]]) -> None:
    rows, table, seen, offsets = SlotBuffer(2, base), {}, set(), {}

    def write(slot: int, values: list[float], offset: int) -> None:
        row = table.setdefault(slot, [np.nan, np.nan])
        table[slot] = [old if np.isnan(new) else new for old, new in zip(row, values, strict=True)]
        seen.add(slot)
        offsets.setdefault(slot, offset)

    for offset, (what, first, more) in enumerate(steps):
        if what == "put":
            values = np.array(more, np.float32)
            assert rows.put(first, np.arange(2), values, offset) == (first >= rows.base)
            if first >= rows.base:
                write(first, more, offset)
        elif what == "put_all":
            slots = rows.base + first + np.cumsum(more)
            values = np.where(slots[:, None] % 3 == np.arange(2), np.nan, slots[:, None] + offset).astype(np.float32)
            rows.put_all(slots, np.arange(2), values, np.full(len(slots), offset))
            for slot, row in zip(slots.tolist(), values.tolist(), strict=True):
                write(slot, row, offset)
        elif what == "drop":
            before = rows.base
            rows.drop_before(first)
            assert max(before, min(first, rows.top) - 63) <= rows.base <= max(first, before)
            table = {slot: row for slot, row in table.items() if slot >= rows.base}
            seen = {slot for slot in seen if slot >= rows.base}
            offsets = {slot: at for slot, at in offsets.items() if slot >= rows.base}
        elif what == "swap":
            rows.reorder([1, 0])
            table = {slot: row[::-1] for slot, row in table.items()}
        else:
            wanted = range(first, first + more)
            expected = [table.get(slot, [np.nan, np.nan]) for slot in wanted]
            np.testing.assert_array_equal(rows.window(first, first + more), np.array(expected).reshape(-1, 2))
            assert rows.seen(first, first + more).tolist() == [slot in seen for slot in wanted]
            required = [at for slot, at in offsets.items() if slot >> 6 >= first >> 6]
            assert rows.min_required_offset(first) == min(required, default=None)
