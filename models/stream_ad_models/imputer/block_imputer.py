"""The imputer as a stream needs it: of every window only the one block that the next hop brings into place."""

from __future__ import annotations

from collections.abc import Sequence
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
    def band_factor(self, coverage: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Imputed:
    """One grating's imputation of the scored channels in the one block of each window that counts.

    mean, std: float32 [window, hop, scored channel], in z-scores.
    """

    mean: Float32
    std: Float32

    def part(self, windows: slice) -> Imputed:
        return Imputed(self.mean[windows], self.std[windows])


class BlockImputer:
    """Imputes, in one network call for all sessions, the block that ends `context` steps before a window's end."""

    def __init__(self, imputer: WindowImputer, hop: int, context: int) -> None:
        self._imputer = imputer
        # Channels of the universal imputer go one by one: unscored ones cost nothing, and widths mix in a batch.
        self._alone = isinstance(imputer, UniversalImputer)
        self._window = imputer.window_steps
        stop = imputer.window_steps - context
        self._block = slice(stop - hop, stop)

    def impute(self, jobs: Sequence[tuple[Float32, Bool]], stripe: int) -> list[Imputed]:
        """jobs: windows [n, steps, channel] of one session each, and its scored channels."""
        picked = [windows[:, :, scored] if self._alone else windows for windows, scored in jobs]
        flat = [each.transpose(0, 2, 1).reshape(-1, self._window, 1) for each in picked] if self._alone else picked
        imputed = self._imputer.impute_steps(np.concatenate(flat), stripe=stripe, steps=self._block)
        mean, std = imputed.mean, imputed.std
        out, at = [], 0
        for each, part, (_, scored) in zip(picked, flat, jobs, strict=True):
            here = slice(at, at + len(part))
            at += len(part)
            out.append(Imputed(self._unfold(mean[here], each, scored), self._unfold(std[here], each, scored)))
        return out

    def _unfold(self, values: Float32, windows: Float32, scored: Bool) -> Float32:
        if not self._alone:
            return values[:, :, scored]
        return values.reshape(len(windows), windows.shape[2], -1).transpose(0, 2, 1)
