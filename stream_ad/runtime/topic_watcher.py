"""Watches a worker's topics while it runs: new topics that match a pattern, and runtime subscriptions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stream_ad.errors import StreamAdError
from stream_ad.settings import Settings
from stream_ad.wiring.subscriptions import SubscriptionResolver

__all__ = ["watch_topics"]

log = logging.getLogger(__name__)
WATCH_S = 5.0


async def watch_topics(
    resolver: SubscriptionResolver, known: Settings, on_change: Callable[[Settings], Awaitable[None]]
) -> None:
    """Awaits `on_change` for each change from `known` on, until cancelled. After an error the worker keeps its topics,
    and the next turn tries again."""
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            now = await asyncio.to_thread(resolver.resolve)
            if now.subscription != known.subscription:
                await on_change(now)
                _log_changes(known, now)
                known = now
        except StreamAdError as error:
            log.warning("%s; the topics stay as they are", error)


def _log_changes(before: Settings, after: Settings) -> None:
    old, new = ({one.topic for one in settings.subscription} for settings in (before, after))
    for topic in sorted(new - old):
        log.info("topic %s is scored from now on", topic, extra={"topic": topic})
    for topic in sorted(old - new):
        log.info("topic %s is no longer scored", topic, extra={"topic": topic})
    for topic in sorted(new & old):
        if before.subscription_of(topic) != after.subscription_of(topic):
            log.info("the subscription of topic %s has changed", topic, extra={"topic": topic})
