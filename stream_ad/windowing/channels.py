"""The channels of one series: their names, their order, and a reading's place in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ad.records import Observation

__all__ = ["Channels"]


@dataclass(slots=True)
class Channels:
    """fixed: no channel is added any more, and the order stays. Who holds rows reorders them as it is told."""

    limit: int
    names: list[str] = field(default_factory=list)
    fixed: bool = False
    _index: dict[str, int] = field(default_factory=dict)
    _asked: tuple[str, ...] | None = None  # of the last `indices`; records mostly hold the same channels
    _found: NDArray[np.intp] | None = None

    def adopt(self, names: tuple[str, ...]) -> None:
        """Those that are known from elsewhere; none = found in the first window."""
        self.names = list(names)
        self.fixed = bool(names)
        self._index = {name: i for i, name in enumerate(self.names)}
        self._asked = None

    def row(self, observation: Observation) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Its readings of known channels: their indices and values."""
        index = self._index
        pairs = [(index[name], value) for name, value in observation.values.items() if name in index]
        if not pairs:
            return np.empty(0, np.intp), np.empty(0, np.float32)
        indices, values = zip(*pairs, strict=True)
        return np.array(indices, np.intp), np.array(values, np.float32)

    def indices(self, names: tuple[str, ...]) -> NDArray[np.intp] | None:
        """None where one is unknown."""
        if names == self._asked:
            return self._found
        if not self._index.keys() >= set(names):
            return None
        self._found = np.array([self._index[name] for name in names], np.intp)
        self._asked = tuple(self.names[at] for at in self._found)  # our own texts, not the record's
        return self._found

    def unknown(self, observation: Observation) -> list[str]:
        return [name for name in observation.values if name not in self._index]

    def learn(self, observation: Observation) -> list[int] | None:
        """Adds its new channels, up to the limit; the order for rows, None = as it was."""
        new = self.unknown(observation)[: self.limit - len(self.names)]
        if not new:
            return None
        self._asked = None
        order = list(range(len(self.names)))
        for name in new:
            self._index[name] = len(self.names)
            order.append(len(self.names))
            self.names.append(name)
        return order

    def fix(self) -> list[int]:
        """Channels that were found get a fixed order, which must not depend on the order of arrival: that for rows."""
        order = sorted(range(len(self.names)), key=lambda i: self.names[i])
        self.adopt(tuple(self.names[i] for i in order))
        self.fixed = True
        return order
