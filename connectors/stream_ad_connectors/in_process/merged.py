"""Several sources as one, as the demo reads the plant and this machine at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stream_ad.ports import AssignmentListener, Source
from stream_ad.records import SourceRecord
from stream_ad_connectors.in_process.bus import NonReplayableSource

__all__ = ["MergedSource"]


class MergedSource(NonReplayableSource):
    """ports.Source over `first` and `others`; it ends when `first` ends.

    `poll` returns as soon as any source has records; each partition keeps its order. For sources without a common topic
    and without offsets (`committed` is None). Trap: records left in the others when `first` ends are not read.
    """

    def __init__(self, first: Source, *others: Source) -> None:
        self._sources = (first, *others)
        self._polls: dict[int, asyncio.Task[Sequence[SourceRecord] | None]] = {}
        self._ended: set[int] = set()

    async def start(self, listener: AssignmentListener) -> None:
        for source in self._sources:
            await source.start(listener)

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        if 0 in self._ended:
            return None
        for number, source in enumerate(self._sources):
            if number not in self._ended and number not in self._polls:
                self._polls[number] = asyncio.create_task(_poll(source, timeout_s))
        await asyncio.wait(self._polls.values(), return_when=asyncio.FIRST_COMPLETED)
        found: list[SourceRecord] = []
        for number in [number for number, poll in self._polls.items() if poll.done()]:
            records = self._polls.pop(number).result()
            if records is None:
                self._ended.add(number)
            found.extend(records or ())
        return found

    async def stop(self) -> None:
        """Cancels the running polls, then stops every source."""
        polls = list(self._polls.values())
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        for source in self._sources:
            await source.stop()


async def _poll(source: Source, timeout_s: float) -> Sequence[SourceRecord] | None:
    return await source.poll(timeout_s)
