"""Per-channel z-scores learned from the history: the input of every component of a scorer.

A constant channel gets a scale from its level, so that its first move shows. Binary channels (only 0 and 1, not always
1) are not scored here but by binary_channels.py (ADR 22).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["Normaliser", "apply_batch"]

_CLIP = 100.0  # larger z-scores carry no more information, and would dominate the other channels
_CONSTANT_SCALE = 0.05  # times the constant's size
_SMALLEST_SCALE = 1e-4  # times the median's size: a smaller spread is rounding
_TINY = 1e-6
_NORMAL_90 = 1.645  # half-width of a normal law's 90% interval, in standard deviations


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Per channel, all [channel]: float64 centre and scale (units of the input), low and high (range of the history),
    bool constant (never moved in the history) and scored (False: binary, or no reading in the history).
    """

    centre: Float64
    scale: Float64
    low: Float64
    high: Float64
    constant: NDArray[np.bool_]
    scored: NDArray[np.bool_]

    @classmethod
    def fit(cls, history: Float32) -> Normaliser:
        """history: float32 [n, channel], NaN = no reading. DataError when there is no reading at all."""
        values = history.astype(np.float64)
        present = ~np.isnan(values)
        if not present.any():
            raise DataError(f"history: expected readings, found none in {history.shape[0]} x {history.shape[1]}")
        seen = present.any(axis=0)
        values[0, ~seen] = 0.0  # silences the nan-functions below; such a channel is not scored
        centre, spread = np.nanmedian(values, axis=0), np.nanstd(values, axis=0)
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        constant = low == high
        scale = np.where(
            constant,
            np.maximum(_CONSTANT_SCALE * np.abs(centre), _TINY),
            np.maximum(spread, _SMALLEST_SCALE * np.abs(centre)),
        )
        binary = np.all(~present | (values == 0) | (values == 1), axis=0) & ~(constant & (centre == 1))
        scored = seen & ~binary
        # Only binary channels: then they are the signal.
        return cls(centre, scale, low, high, np.asarray(constant), scored if scored.any() else np.asarray(seen))

    def apply(self, rows: Float32) -> Float32:
        """rows [..., channel] as z-scores clipped to +-100, NaN kept, float32."""
        z = (rows.astype(np.float64) - self.centre) / self.scale
        return np.clip(z, -_CLIP, _CLIP).astype(np.float32)

    def restore(self, z: Float32 | Float64, channels: NDArray[np.bool_] | None = None) -> Float32:
        """z-scores [..., channel] in the units of the input; `channels` selects the columns that z holds."""
        pick = slice(None) if channels is None else channels
        return np.asarray(z * self.scale[pick] + self.centre[pick], dtype=np.float32)

    def intervals(self, mean: Float32 | Float64, std: Float64) -> tuple[Float32, Float32, Float32]:
        """expected, lower and upper of the 90% band, float32 [n, channel], in the units of the input.

        mean: z-scores [n, scored channel]; std: of the readings about it, [n, scored channel] or [scored channel].
        Channels that are not scored or never moved have the centre and the range of the history.
        """
        moving = self.scored & ~self.constant
        inner = ~self.constant[self.scored]
        shape = (len(mean), len(self.scored))
        expected, lower, upper = (
            np.broadcast_to(each, shape).astype(np.float32) for each in (self.centre, self.low, self.high)
        )
        half = _NORMAL_90 * std[..., inner]
        for out, z in ((expected, mean[:, inner]), (lower, mean[:, inner] - half), (upper, mean[:, inner] + half)):
            out[:, moving] = self.restore(z, moving)
        return expected, lower, upper

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {f"normaliser.{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Normaliser:
        centre, scale, low, high = (
            np.asarray(arrays[f"normaliser.{name}"], np.float64) for name in ("centre", "scale", "low", "high")
        )
        constant, scored = (np.asarray(arrays[f"normaliser.{name}"], np.bool_) for name in ("constant", "scored"))
        return cls(centre, scale, low, high, constant, scored)


def apply_batch(normalisers: Sequence[Normaliser], rows: Float32) -> Float32:
    """`Normaliser.apply` of several with the same number of channels: rows [normaliser, n, channel]."""
    z = rows - np.stack([each.centre for each in normalisers])[:, None]
    z /= np.stack([each.scale for each in normalisers])[:, None]
    return np.clip(z, -_CLIP, _CLIP).astype(np.float32)
