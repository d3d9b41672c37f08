"""How many records one poll may bring, so that its caller polls again soon."""

from __future__ import annotations

__all__ = ["Pace"]

FIRST, LEAST = 200, 50  # a record may be a block of 1,000 rows: few at first, twice as many with every quick poll


class Pace:
    """Holds the time that a caller works between two polls near `target_s`.

    A rebalance waits for every member's next poll, and goes on without a member that takes too long: on a slow machine
    with much to catch up, workers that read too much at once would take the partitions from one another for ever, none
    of them getting as far as a commit.
    """

    def __init__(self, most: int, target_s: float = 2.0) -> None:
        self._most = most
        self._target_s = target_s
        self._handed = 0
        self._handed_s = 0.0
        self.limit = min(most, FIRST)

    def handed(self, count: int, now_s: float) -> None:
        """Records were handed out."""
        self._handed, self._handed_s = count, now_s

    def asked(self, now_s: float) -> None:
        """The caller is back for more: fewer if it took long (a store that was away counts too, it is soon made up
        for), twice as many if it had all it may have and was quick."""
        took_s = now_s - self._handed_s
        if self._handed and took_s > self._target_s:
            self.limit = max(min(LEAST, self._most), int(self._handed * self._target_s / took_s))
        elif self._handed >= self.limit and took_s < self._target_s / 2:
            self.limit = min(self._most, 2 * self.limit)
        self._handed = 0
