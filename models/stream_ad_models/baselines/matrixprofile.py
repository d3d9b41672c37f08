"""Baseline: distance to the nearest subsequence of the history in shape (stumpy's matrix profile).

Yeh et al., "Matrix Profile I" (ICDM 2016), as a join of the stream with its history (left neighbours alone). Each
channel's subsequences are z-normalised: another shape stands out, another size alone hardly does. A row's error is the
mean squared distance of the subsequences that hold it, 0 where gaps leave none. stumpy is the extra `matrixprofile`;
its first search compiles for some seconds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.errors import ConfigError
from stream_ad_models.baselines.base import Arrays, ErrorFunction, Learned, PointErrors, PointwiseScorer
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS

Float64 = NDArray[np.float64]

__all__ = ["MatrixProfileScorer"]

_STEPS = 32  # the default delay: all subsequences that hold the newest emitted row are complete
_STRIDE = 8  # between subsequences; a divisor of the hop, so that windows share them
_MOST_ROWS = 4096  # of the history, the latest, that are searched
_MOST_FILLED = 4  # length of a gap that is interpolated; longer ones exclude their subsequences
_FLOOR = 0.03  # smallest distance per row and smallest standard deviation of the errors, in z-scores

Found = tuple[float, Float64]  # squared distance; the neighbour [32] at the level and scale of the query


class Searched:
    """One channel's history, float64 [n], NaN = no reading; caches the results of the last window."""

    def __init__(self, values: Float64) -> None:
        from stumpy import core

        self._values = values[-_MOST_ROWS:]
        whole = len(self._values) >= _STEPS
        self._ready = core.preprocess(self._values, _STEPS) if whole else None
        self._found: dict[bytes, Found | None] = {}

    def nearest(self, subsequences: list[Float64]) -> list[Found | None]:
        """None for a subsequence with a missing reading or without a neighbour."""
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
        numba.set_num_threads(1)  # for this thread: more threads cost more than a short search
        ready, means, spreads, constant = self._ready
        profile = core.mass(subsequence, ready, M_T=means, Σ_T=spreads, T_subseq_isconstant=constant)
        at = int(profile.argmin())
        if not np.isfinite(profile[at]):
            return None
        neighbour = self._values[at : at + _STEPS]
        scale = subsequence.std() / neighbour.std() if neighbour.std() > 0 else 0.0
        return float(profile[at]) ** 2, subsequence.mean() + scale * (neighbour - neighbour.mean())


class MatrixProfileScorer(PointwiseScorer):
    """ConfigError where stumpy is not installed."""

    name = "matrixprofile"

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
        """Held-out distances: each half of the history searched in the other."""
        filled, middle = _filled(z), len(z) // 2
        halves = (filled[:middle], filled[middle:])
        searched = [[Searched(values) for values in half.T] for half in halves]
        parts = [_profile(half, other) for half, other in zip(halves, reversed(searched), strict=True)]
        squares, expected = (np.concatenate(each) for each in zip(*parts, strict=True))
        squares[np.isnan(z)] = 0.0
        errors = np.nan_to_num(z - expected)
        spread = np.maximum(np.sqrt(squares.mean(axis=0)), _FLOOR * np.sqrt(_STEPS))
        arrays = {
            "matrixprofile.history": filled[-_MOST_ROWS:],
            "matrixprofile.spread": spread,
            "matrixprofile.std": np.maximum(np.sqrt(np.square(errors).mean(axis=0)), _FLOOR),
        }
        return Learned(arrays, [squares / spread**2])

    def error_function(self, arrays: Arrays) -> ErrorFunction:
        searched = [Searched(values) for values in np.asarray(arrays["matrixprofile.history"], np.float64).T]
        spread = np.asarray(arrays["matrixprofile.spread"], np.float64)
        std = np.asarray(arrays["matrixprofile.std"], np.float64)

        def errors(z: Float64, _: int) -> PointErrors:
            squares, expected = _profile(_filled(z), searched)
            squares = np.where(np.isnan(z), 0.0, squares / spread**2)
            return PointErrors([squares], expected, np.broadcast_to(std, z.shape))

        return errors


def _filled(z: Float64) -> Float64:
    """Linear interpolation over short gaps, and over the first steps of long ones."""
    return pd.DataFrame(z).interpolate(limit=_MOST_FILLED, limit_area="inside").to_numpy(np.float64)


def _profile(filled: Float64, searched: list[Searched]) -> tuple[Float64, Float64]:
    """Squared distances and expected values, means over the subsequences that hold a row, both [n, channel]; the last
    subsequence ends with the rows."""
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
    return squares / count, expected / count
