"""The channels of one series: their names and their order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ad.records import Observation

__all__ = ["Channels"]


@dataclass(slots=True)
class Channels:
    """Channel names in the order of the buffer's columns.

    fixed: no channel is added any more and the order stays. A returned `order` lists the old index of each new column;
    the caller must reorder its rows accordingly (`SlotBuffer.reorder`).
    """

    limit: int
    names: list[str] = field(default_factory=list)
    fixed: bool = False
    _index: dict[str, int] = field(default_factory=dict)
    _last_names: tuple[str, ...] | None = None  # of the last `indices`: records mostly hold the same channels
    _last_indices: NDArray[np.intp] | None = None

    def adopt(self, names: tuple[str, ...]) -> None:
        """Fixes the channels to `names`; () = they are found in the first window."""
        self.names = list(names)
        self.fixed = bool(names)
        self._index = {name: i for i, name in enumerate(self.names)}
        self._last_names = None

    def row(self, observation: Observation) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Indices and values of the observation's known channels."""
        index = self._index
        pairs = [(index[name], value) for name, value in observation.values.items() if name in index]
        if not pairs:
            return np.empty(0, np.intp), np.empty(0, np.float32)
        indices, values = zip(*pairs, strict=True)
        return np.array(indices, np.intp), np.array(values, np.float32)

    def indices(self, names: tuple[str, ...]) -> NDArray[np.intp] | None:
        """The index of each name; None when one is unknown."""
        if names == self._last_names:
            return self._last_indices
        if not self._index.keys() >= set(names):
            return None
        self._last_indices = np.array([self._index[name] for name in names], np.intp)
        self._last_names = tuple(self.names[at] for at in self._last_indices)  # our own strings, not the record's
        return self._last_indices

    def unknown(self, observation: Observation) -> list[str]:
        return [name for name in observation.values if name not in self._index]

    def learn(self, observation: Observation) -> list[int] | None:
        """Adds the observation's unknown channels, up to the limit; the new order, None = unchanged."""
        new = self.unknown(observation)[: self.limit - len(self.names)]
        if not new:
            return None
        self._last_names = None
        for name in new:
            self._index[name] = len(self.names)
            self.names.append(name)
        return list(range(len(self.names)))

    def fix(self) -> list[int]:
        """Fixes the channels found so far, sorted by name, since their order must not depend on arrival; the order."""
        order = sorted(range(len(self.names)), key=lambda i: self.names[i])
        self.adopt(tuple(self.names[i] for i in order))
        self.fixed = True
        return order
