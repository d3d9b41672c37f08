"""What pages are told live, worked out once for all of them: alert events, series whose state changed, the lag."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.records import SeriesStatus
from stream_ad.sdk.client import Client
from stream_ad.service.schemas import alert_document, status_document
from stream_ad.settings import Settings
from stream_ad.wiring import Store

__all__ = ["Event", "Feed"]

log = logging.getLogger(__name__)
WATCH_S, AGAIN_S = 2.0, 2.0
SHARE = 10  # of the time goes by for each time that reading the states takes
KEPT, QUEUED = 1_000, 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """kind: alert | series | reset (something may have been missed: read anew). data: JSON; id: for who comes back."""

    kind: str
    data: Any
    id: str = ""


class Feed:
    """Listeners take events from a queue each; one that does not keep up is let go, and comes again.

    `start` on the event loop, once; `close` from any thread. UnavailableError when there are `places` listeners.
    """

    def __init__(self, settings: Settings, store: Store, places: int) -> None:
        self._settings, self._store, self._places = settings, store, places
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._boot, self._count = secrets.token_hex(4), 0
        self._past: deque[Event] = deque(maxlen=KEPT)
        self._closed, self._wanted = threading.Event(), threading.Event()
        self._client: Client | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._follow, self._watch)]

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Lets every listener go."""
        self._closed.set()
        self._wanted.set()
        client = self._client
        if client is not None:
            client.unfollow()
        self._tell(None)

    def join(self) -> None:
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    @contextmanager
    def listen(self, last_id: str = "") -> Iterator[asyncio.Queue[Event | None]]:
        """A queue of events, None = it is over. last_id: the last event that the listener had before."""
        if len(self._listeners) >= self._places:
            raise UnavailableError(f"{self._places} live streams are open (serve.streams)", retry_after_s=10)
        queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUED + KEPT)
        for event in self._missed(last_id):
            queue.put_nowait(event)
        if self._closed.is_set():
            queue.put_nowait(None)
        self._listeners.add(queue)
        self._wanted.set()
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
            if not self._listeners and not self._closed.is_set():
                self._wanted.clear()

    def _missed(self, last_id: str) -> list[Event]:
        if not last_id:
            return []
        past = list(self._past)
        known = [place for place, event in enumerate(past) if event.id == last_id]
        if known:
            return past[known[0] + 1 :]
        nothing_since = last_id == f"{self._boot}-{self._count}"
        return [] if nothing_since else [Event("reset", {}, f"{self._boot}-{self._count}")]

    # ---- told to the event loop by the two threads

    def _tell(self, event: Event | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: Event | None) -> None:
        if event is not None and event.kind == "alert":
            self._count += 1
            event = Event(event.kind, event.data, f"{self._boot}-{self._count}")
            self._past.append(event)
        for queue in list(self._listeners):
            if event is None or queue.qsize() >= QUEUED + KEPT - 1:
                self._listeners.discard(queue)
                while event is not None and not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def _follow(self) -> None:
        """Alert events, from the topic or from the embedded store."""
        broken = False
        while not self._closed.is_set():
            with Client(self._settings) as self._client:
                if self._closed.is_set():  # `close` may have met the client before
                    return
                try:
                    coming = self._client.alerts(follow=True)
                    if broken:
                        self._tell(Event("reset", {}))
                    broken = False
                    for alert in coming:
                        self._tell(Event("alert", alert_document(alert)))
                except StreamAdError as error:
                    if not broken:
                        log.warning("%s; alerts are followed again later", error)
                    broken = True
            self._closed.wait(AGAIN_S)

    def _watch(self) -> None:
        """States of series that changed, while somebody listens."""
        known: dict[str, SeriesStatus] | None = None
        while not self._closed.is_set():
            self._wanted.wait()
            if self._closed.is_set():
                return
            begun = time.monotonic()
            try:
                found = {status.series: status for status in self._store.statuses.statuses()}
            except StreamAdError as error:
                log.warning("%s; states of series are read again later", error)
            else:
                before = found if known is None else known
                changed = [status_document(one) for name, one in found.items() if before.get(name) != one]
                if changed:
                    self._tell(Event("series", changed))
                known = found
            self._closed.wait(max(WATCH_S, SHARE * (time.monotonic() - begun)))
