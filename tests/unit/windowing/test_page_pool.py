"""The page pool: a page has one holder, released pages are reused, and unused blocks are freed."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.windowing.page_pool import PAGE_SLOTS, PagePool, pool_of
from stream_ad.windowing.slot_buffer import SlotBuffer

SLOTS = 3 * PAGE_SLOTS


@given(channels=st.integers(0, 3000), steps=st.lists(st.booleans(), max_size=200))
def test_a_page_has_one_holder_and_is_empty(channels: int, steps: list[bool]) -> None:
    pool, held = PagePool(channels), []
    for number, take in enumerate(steps):
        if take:
            held.append((number, pool.acquire()))
            assert held[-1][1].shape == (PAGE_SLOTS, channels)
            assert np.isnan(held[-1][1]).all()
            held[-1][1].fill(number)
        elif held:
            pool.release([held.pop(number % len(held))[1]])
    assert all((page == number).all() for number, page in held)


def test_pages_released_by_other_threads_are_reused() -> None:
    pool, blocks = PagePool(38), []
    with ThreadPoolExecutor(4) as threads:
        for _ in range(50):
            pages = [pool.acquire() for _ in range(100)]
            blocks += [weakref.ref(page.base) for page in pages]
            list(threads.map(lambda page: pool.release([page]), pages))
            del pages
            assert len({id(block()) for block in blocks if block() is not None}) <= -(-100 // 26) + 1


@pytest.mark.parametrize("leave", ["dropped", "deleted", "reordered"])
def test_buffers_that_end_release_their_pages(leave: str) -> None:
    channels = 41  # no other test in this process uses this width
    buffers = [filled(channels) for _ in range(40)]
    blocks = [weakref.ref(page.base) for buffer in buffers for page in buffer._pages]
    if leave == "dropped":
        for buffer in buffers:
            buffer.drop_before(SLOTS)
    elif leave == "reordered":
        for buffer in buffers:
            buffer.reorder(list(range(channels + 1)))
    else:
        buffers.clear()
    gc.collect()
    kept = pool_of(channels).acquire()
    assert len({id(block()) for block in blocks if block() is not None}) == 1  # the block of `kept`
    assert kept.base is not None


def test_a_copy_of_a_buffer_shares_no_page_with_it() -> None:
    buffer = filled(2)
    copy = deepcopy(buffer)
    copy.put(0, np.arange(2), np.array([7, 7], np.float32), 0)
    copy.drop_before(SLOTS)
    del copy
    other = filled(2)
    other.put(1, np.arange(2), np.array([8, 8], np.float32), 0)
    assert (buffer.window(0, SLOTS) == 1).all()


def filled(channels: int) -> SlotBuffer:
    buffer = SlotBuffer(channels)
    values = np.ones((SLOTS, channels), np.float32)
    buffer.put_all(np.arange(SLOTS), np.arange(channels), values, np.zeros(SLOTS, np.int64))
    return buffer
