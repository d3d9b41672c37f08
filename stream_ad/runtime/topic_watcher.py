"""A worker's topics while it runs: patterns that new topics match, and what people subscribe to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stream_ad.errors import StreamAdError
from stream_ad.settings import Settings
from stream_ad.wiring.subscriptions import SubscriptionResolver

__all__ = ["follow"]

log = logging.getLogger(__name__)
FOLLOW_S = 5.0


async def follow(
    subscribed: SubscriptionResolver, known: Settings, changed: Callable[[Settings], Awaitable[None]]
) -> None:
    """Tells of every change from `known` on, until it is cancelled. What stands in its way is tried again: the topics
    that are read meanwhile are not given up for it."""
    while True:
        await asyncio.sleep(FOLLOW_S)
        try:
            now = await asyncio.to_thread(subscribed.now)
            if now.subscription != known.subscription:
                await changed(now)
                _tell(known, now)
                known = now
        except StreamAdError as error:
            log.warning("%s; the topics stay as they are", error)


def _tell(before: Settings, after: Settings) -> None:
    old, new = ({one.topic for one in settings.subscription} for settings in (before, after))
    for topic in sorted(new - old):
        log.info("topic %s is scored from now on", topic, extra={"topic": topic})
    for topic in sorted(old - new):
        log.info("topic %s is no longer scored", topic, extra={"topic": topic})
    for topic in sorted(new & old):
        if before.subscription_of(topic) != after.subscription_of(topic):
            log.info("topic %s is read another way from now on", topic, extra={"topic": topic})
