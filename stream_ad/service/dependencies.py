"""The state that all routes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from stream_ad.records import GroupLag
from stream_ad.service.auth import Access
from stream_ad.service.live_feed import Feed
from stream_ad.service.middleware import HttpMetrics
from stream_ad.service.publisher import SharedPublisher
from stream_ad.settings import Settings
from stream_ad.wiring import Store

__all__ = ["AppState", "StateDep"]


@dataclass(frozen=True, slots=True)
class AppState:
    """Opened at startup. lag: reads the consumer lag of the workers; None without a broker."""

    settings: Settings
    store: Store
    feed: Feed
    access: Access
    metrics: HttpMetrics
    publisher: SharedPublisher
    lag: Callable[[], list[GroupLag] | None]


def _app_state(request: Request) -> AppState:
    state: AppState = request.app.state.app_state
    return state


StateDep = Annotated[AppState, Depends(_app_state)]
