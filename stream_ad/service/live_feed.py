"""Live events for all open pages: alert events, and series whose state changed."""

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
POLL_S, RETRY_S = 2.0, 2.0
POLL_FACTOR = 10  # the interval is at least this multiple of the time that reading the states takes
HISTORY, QUEUED = 1_000, 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """kind: alert | series | reset (events may have been lost: reload). data: JSON; id: for Last-Event-ID."""

    kind: str
    data: Any
    id: str = ""


class Feed:
    """Publishes events to one queue per listener; a listener whose queue is full is disconnected and must reconnect.

    Call `start` once, on the event loop; `close` is thread-safe. At most `max_listeners` listeners.
    """

    def __init__(self, settings: Settings, store: Store, max_listeners: int) -> None:
        self._settings, self._store, self._max_listeners = settings, store, max_listeners
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._boot, self._count = secrets.token_hex(4), 0
        self._past: deque[Event] = deque(maxlen=HISTORY)
        self._closed, self._has_listeners = threading.Event(), threading.Event()
        self._client: Client | None = None
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._stream_alerts, self._poll_statuses)
        ]

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Disconnects every listener and stops the threads."""
        self._closed.set()
        self._has_listeners.set()
        client = self._client
        if client is not None:
            client.unfollow()
        self._publish(None)

    def join(self) -> None:
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    @contextmanager
    def listen(self, last_id: str = "") -> Iterator[asyncio.Queue[Event | None]]:
        """A queue of events that ends with None. last_id: the listener's last event. UnavailableError: too many."""
        if len(self._listeners) >= self._max_listeners:
            raise UnavailableError(f"{self._max_listeners} live streams are open (serve.streams)", retry_after_s=10)
        queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUED + HISTORY)
        for event in self._missed(last_id):
            queue.put_nowait(event)
        if self._closed.is_set():
            queue.put_nowait(None)
        self._listeners.add(queue)
        self._has_listeners.set()
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
            if not self._listeners and not self._closed.is_set():
                self._has_listeners.clear()

    def _missed(self, last_id: str) -> list[Event]:
        if not last_id:
            return []
        past = list(self._past)
        known = [index for index, event in enumerate(past) if event.id == last_id]
        if known:
            return past[known[0] + 1 :]
        nothing_since = last_id == f"{self._boot}-{self._count}"
        return [] if nothing_since else [Event("reset", {}, f"{self._boot}-{self._count}")]

    # ---- the two threads publish to the event loop

    def _publish(self, event: Event | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: Event | None) -> None:
        if event is not None and event.kind == "alert":
            self._count += 1
            event = Event(event.kind, event.data, f"{self._boot}-{self._count}")
            self._past.append(event)
        for queue in list(self._listeners):
            if event is None or queue.qsize() >= QUEUED + HISTORY - 1:
                self._listeners.discard(queue)
                while event is not None and not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def _stream_alerts(self) -> None:
        """Alert events from the topic, or from the embedded store."""
        broken = False
        while not self._closed.is_set():
            with Client(self._settings) as self._client:
                if self._closed.is_set():  # `close` may have run before `_client` was set
                    return
                try:
                    events = self._client.alerts(follow=True)
                    if broken:
                        self._publish(Event("reset", {}))
                    broken = False
                    for alert in events:
                        self._publish(Event("alert", alert_document(alert)))
                except StreamAdError as error:
                    if not broken:
                        log.warning("%s; the alert stream is retried", error)
                    broken = True
            self._closed.wait(RETRY_S)

    def _poll_statuses(self) -> None:
        """Series whose state changed, while there are listeners."""
        known: dict[str, SeriesStatus] | None = None
        while not self._closed.is_set():
            self._has_listeners.wait()
            if self._closed.is_set():
                return
            begun = time.monotonic()
            try:
                found = {status.series: status for status in self._store.statuses.statuses()}
            except StreamAdError as error:
                log.warning("%s; reading the series' states is retried", error)
            else:
                before = found if known is None else known
                changed = [status_document(one) for name, one in found.items() if before.get(name) != one]
                if changed:
                    self._publish(Event("series", changed))
                known = found
            self._closed.wait(max(POLL_S, POLL_FACTOR * (time.monotonic() - begun)))
