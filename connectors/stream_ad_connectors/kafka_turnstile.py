"""Lets a consumer's rebalance callbacks in between two polls, and at no other time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Turnstile"]


class Turnstile:
    """The poller holds it while its caller works and while it fetches; callbacks take turns in `hold`.

    `wanted` is set while a callback waits. Create it inside the event loop that uses it.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._held = False
        self._waiting = 0

    async def hold(self) -> None:
        """Let every waiting callback pass (the lock is first come, first served), then hold."""
        self.free()
        await self._lock.acquire()
        self._held = True

    def free(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A callback's turn."""
        self._waiting += 1
        self.wanted.set()
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.wanted.clear()
        try:
            yield
        finally:
            self._lock.release()
