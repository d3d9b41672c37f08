"""The StateStore contract.

For a new adapter: `await check_state_store(make)`; every check gets what `make()` (it may be a coroutine function)
returns: a StateStoreUnderTest whose `open()` yields a store over one fresh, empty place, the second call a second store
over the same place (what a restarted worker, or the next owner of the partition, opens). `topics` are two source
topics that the store may be asked for, each with the partitions 0 and 1. `close` is called on every store opened.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from stream_ad.ports import StateStore
from tests.support.sink_samples import AWKWARD_NAMES

__all__ = ["STATE_STORE_CHECKS", "StateStoreUnderTest", "check_state_store"]


@dataclass(frozen=True)
class StateStoreUnderTest:
    open: Callable[[], StateStore | Awaitable[StateStore]]
    close: Callable[[StateStore], Awaitable[None] | None]
    topics: tuple[str, str] = ("sensors a", "sensors-b")


@asynccontextmanager
async def opened(target: StateStoreUnderTest) -> AsyncIterator[StateStore]:
    made = target.open()
    store = await made if inspect.isawaitable(made) else made
    try:
        yield store
    finally:
        closing = target.close(store)
        if inspect.isawaitable(closing):
            await closing


async def nothing_saved_is_empty(target: StateStoreUnderTest) -> None:
    async with opened(target) as store:
        assert await store.load(target.topics[0], 0) == {}
        await store.save(target.topics[0], 0, {})
        assert await store.load(target.topics[0], 0) == {}


async def bytes_come_back(target: StateStoreUnderTest) -> None:
    """Awkward series names; empty, binary and large states. An empty state is a state, not the absence of one."""
    states = {name: name.encode() + bytes(range(256)) for name in AWKWARD_NAMES}
    states |= {"empty": b"", "large": bytes(200_000)}
    async with opened(target) as store:
        await store.save(target.topics[0], 0, states)
        assert await store.load(target.topics[0], 0) == states


async def the_newest_wins_and_the_rest_stays(target: StateStoreUnderTest) -> None:
    async with opened(target) as store:
        await store.save(target.topics[0], 0, {"a": b"1", "b": b"1"})
        await store.save(target.topics[0], 0, {"a": b"2"})
        await store.save(target.topics[0], 0, {"a": b"3", "c": b"1"})
        assert await store.load(target.topics[0], 0) == {"a": b"3", "b": b"1", "c": b"1"}


async def partitions_are_apart(target: StateStoreUnderTest) -> None:
    here, there = target.topics
    async with opened(target) as store:
        await store.save(here, 0, {"a": b"here 0"})
        await store.save(here, 1, {"a": b"here 1"})
        await store.save(there, 0, {"a": b"there 0"})
        assert await store.load(here, 0) == {"a": b"here 0"}
        assert await store.load(here, 1) == {"a": b"here 1"}
        assert await store.load(there, 0) == {"a": b"there 0"}
        assert await store.load(there, 1) == {}


async def the_next_owner_finds_it(target: StateStoreUnderTest) -> None:
    """Durable when `save` returns: a second store sees it while the first is open, and after it was closed."""
    async with opened(target) as first:
        await first.save(target.topics[0], 0, {"a": b"1"})
        async with opened(target) as second:
            assert await second.load(target.topics[0], 0) == {"a": b"1"}
            await second.save(target.topics[0], 0, {"a": b"2"})
        assert await first.load(target.topics[0], 0) == {"a": b"2"}
    async with opened(target) as third:
        assert await third.load(target.topics[0], 0) == {"a": b"2"}


STATE_STORE_CHECKS: tuple[Callable[[StateStoreUnderTest], Awaitable[None]], ...] = (
    nothing_saved_is_empty,
    bytes_come_back,
    the_newest_wins_and_the_rest_stays,
    partitions_are_apart,
    the_next_owner_finds_it,
)


async def check_state_store(make: Callable[[], StateStoreUnderTest | Awaitable[StateStoreUnderTest]]) -> None:
    """Every check over a fresh target each."""
    for check in STATE_STORE_CHECKS:
        target = make()
        await check(await target if inspect.isawaitable(target) else target)
