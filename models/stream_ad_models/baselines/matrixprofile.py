"""Baseline: distance to the nearest sub-sequence of the history, shape against shape (stumpy's matrix profile).

Yeh et al., "Matrix Profile I" (ICDM 2016), as a join of the stream with its history (left neighbours alone). Each
channel's sub-sequences are z-normalised: a beat of another shape shows, one of another size alone hardly. A row's error
is the mean squared distance of the sub-sequences that hold it, 0 where gaps leave none. stumpy is the extra
`matrixprofile`; it compiles at its first search, some seconds long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.errors import ConfigError
from stream_ad_models.baselines.base import Arrays, Learned, PointErrors, PointwiseScorer, PointwiseSession
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS

Float64 = NDArray[np.float64]

__all__ = ["MatrixProfileScorer"]

_STEPS = 32  # the default delay: the newest row that is told has been seen by all its sub-sequences
_STRIDE = 8  # between sub-sequences that are looked up; a divisor of the hop, so that windows share them
_MOST_ROWS = 4096  # of the history, the latest: what is searched
_MOST_FILLED = 4  # missing readings in a row that are drawn over; longer gaps leave their sub-sequences out
_FLOOR = 0.03  # smallest distance per row and smallest standard deviation of the errors, in z-scores

Found = tuple[float, Float64]  # squared distance; the neighbour [32] at the level and scale of what it was found for


class Searched:
    """One channel's history, float64 [n], NaN = no reading; what was found for the last window is kept."""

    def __init__(self, values: Float64) -> None:
        from stumpy import core

        self._values = values[-_MOST_ROWS:]
        whole = len(self._values) >= _STEPS
        self._ready = core.preprocess(self._values, _STEPS) if whole else None
        self._found: dict[bytes, Found | None] = {}

    def nearest(self, subsequences: list[Float64]) -> list[Found | None]:
        """None where a reading is missing, or nothing was found."""
        keys = [each.tobytes() for each in subsequences]
        found = {}
        for key, each in zip(keys, subsequences, strict=True):
            found[key] = self._found[key] if key in self._found else self._search(each)
        self._found = found
        return [found[key] for key in keys]

    def _search(self, subsequence: Float64) -> Found | None:
        import numba
        from stumpy import core

        if self._ready is None or np.isnan(subsequence).any():
            return None
        numba.set_num_threads(1)  # of this thread: threads cost more than one short search
        ready, means, spreads, constant = self._ready
        profile = core.mass(subsequence, ready, M_T=means, Σ_T=spreads, T_subseq_isconstant=constant)
        at = int(profile.argmin())
        if not np.isfinite(profile[at]):
            return None
        neighbour = self._values[at : at + _STEPS]
        scale = subsequence.std() / neighbour.std() if neighbour.std() > 0 else 0.0
        return float(profile[at]) ** 2, subsequence.mean() + scale * (neighbour - neighbour.mean())


@dataclass(frozen=True, slots=True)
class Profile:
    """Squared distances and what the neighbours expect, both float64 [n, channel]."""

    squares: Float64
    expected: Float64


class MatrixProfileSession(PointwiseSession):
    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self._searched = [Searched(values) for values in np.asarray(arrays["matrixprofile.history"], np.float64).T]
        self._spread = np.asarray(arrays["matrixprofile.spread"], np.float64)
        self._std = np.asarray(arrays["matrixprofile.std"], np.float64)

    def errors(self, z: Float64, end_slot: int) -> PointErrors:
        del end_slot  # nothing but what is known already runs from window to window
        profile = _profile(_filled(z), self._searched)
        squares = np.where(np.isnan(z), 0.0, profile.squares / self._spread**2)
        return PointErrors([squares], profile.expected, np.broadcast_to(self._std, z.shape))


class MatrixProfileScorer(PointwiseScorer):
    """ConfigError where stumpy is not installed."""

    name = "matrixprofile"
    revision = "1"

    def __init__(self, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(hop_steps=hop_steps, delay_steps=delay_steps)
        try:
            import stumpy  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"scorer matrixprofile: expected stumpy to be installed, found: {error}",
                hint="pip install 'stream-ad[matrixprofile]'",
            ) from error

    def learn(self, z: Float64) -> Learned:
        """Held-out distances: each half of the history looked up in the other."""
        filled, middle = _filled(z), len(z) // 2
        halves = (filled[:middle], filled[middle:])
        searched = [[Searched(values) for values in half.T] for half in halves]
        parts = [_profile(half, other) for half, other in zip(halves, reversed(searched), strict=True)]
        squares = np.concatenate([part.squares for part in parts])
        squares[np.isnan(z)] = 0.0
        errors = np.nan_to_num(z - np.concatenate([part.expected for part in parts]))
        spread = np.maximum(np.sqrt(squares.mean(axis=0)), _FLOOR * np.sqrt(_STEPS))
        arrays = {
            "matrixprofile.history": filled[-_MOST_ROWS:],
            "matrixprofile.spread": spread,
            "matrixprofile.std": np.maximum(np.sqrt(np.square(errors).mean(axis=0)), _FLOOR),
        }
        return Learned(arrays, [squares / spread**2])

    def open(self, arrays: Arrays) -> MatrixProfileSession:
        return MatrixProfileSession(arrays)


def _filled(z: Float64) -> Float64:
    """Straight lines over short gaps, up to the first steps of long ones."""
    return pd.DataFrame(z).interpolate(limit=_MOST_FILLED, limit_area="inside").to_numpy(np.float64)


def _profile(filled: Float64, searched: list[Searched]) -> Profile:
    """Means over the sub-sequences that hold a row; the last begins where the rows end."""
    squares, expected, count = np.zeros_like(filled), np.zeros_like(filled), np.zeros_like(filled)
    starts = [*range(0, len(filled) - _STEPS, _STRIDE), len(filled) - _STEPS]
    for channel, each in enumerate(searched):
        values = np.ascontiguousarray(filled[:, channel])
        for start, found in zip(starts, each.nearest([values[at : at + _STEPS] for at in starts]), strict=True):
            if found is not None:
                rows = slice(start, start + _STEPS)
                squares[rows, channel] += found[0]
                expected[rows, channel] += found[1]
                count[rows, channel] += 1
    count = np.maximum(count, 1)
    return Profile(squares / count, expected / count)
