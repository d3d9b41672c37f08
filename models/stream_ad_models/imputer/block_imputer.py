"""The imputer as a stream needs it: of every window only the block that the next hop completes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.imputer.imputer import Imputation, UniversalImputer

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

__all__ = ["BlockImputer", "Imputed", "WindowImputer"]


class WindowImputer(Protocol):
    """What a scorer needs of an imputer; see stream_ad_models.imputer.imputer."""

    @property
    def window_steps(self) -> int: ...
    @property
    def version(self) -> str: ...
    def impute_steps(self, windows: Float32, *, stripe: int, steps: slice) -> Imputation: ...
    def interval_factor(self, coverage: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Imputed:
    """One block of each window, imputed under one stripe mask. mean, std: float32 [window, hop, scored channel],
    z-scores."""

    mean: Float32
    std: Float32


class BlockImputer:
    """Imputes the block that ends `context` steps before a window's end."""

    def __init__(self, imputer: WindowImputer, hop: int, context: int) -> None:
        self._imputer = imputer
        # The universal imputer takes channels one by one: only scored ones cost anything, and series of any width mix.
        self._by_channel = isinstance(imputer, UniversalImputer)
        stop = imputer.window_steps - context
        self._block = slice(stop - hop, stop)

    def impute(self, windows: Float32, scored: Bool, stripe: int) -> Imputed:
        """windows: [n, steps, channel] of sessions with these scored channels; one network call."""
        if not self._by_channel:
            imputed = self._imputer.impute_steps(windows, stripe=stripe, steps=self._block)
            return Imputed(imputed.mean[:, :, scored], imputed.std[:, :, scored])
        rows = windows[:, :, scored].transpose(0, 2, 1)
        flat = self._imputer.impute_steps(rows.reshape(-1, rows.shape[2], 1), stripe=stripe, steps=self._block)
        mean, std = (each.reshape(*rows.shape[:2], -1).transpose(0, 2, 1) for each in (flat.mean, flat.std))
        return Imputed(mean, std)
