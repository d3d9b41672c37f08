"""What sources have in common whose records cannot be read again."""

from __future__ import annotations

from collections.abc import Mapping

from stream_ad.ports import Checkpoint

__all__ = ["ReadOnce"]


class ReadOnce:
    """The part of ports.Source that is about going on from somewhere: they never do."""

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        """Nothing to keep: there is no second reading."""

    async def holds(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return None
