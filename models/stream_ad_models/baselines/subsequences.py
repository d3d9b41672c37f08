"""Baselines that reconstruct short subsequences of all channels: principal components and k-means (scikit-learn).

A subsequence is `steps` rows of every scored channel in one vector; a row's squared error is the mean over the window's
subsequences that hold it. Missing readings add no error.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.baselines.base import Arrays, ErrorFunction, Learned, PointErrors, PointwiseScorer, SeededScorer

Float64 = NDArray[np.float64]

__all__ = ["KMeansScorer", "PcaScorer", "SubsequenceScorer", "sample_subsequences"]

_MOST_STEPS = 32  # the default delay: all subsequences that hold the newest emitted row are complete
_MOST_VALUES = 512  # of one subsequence
_MOST_SUBSEQUENCES = 8192  # of the history, evenly spaced
_CHUNK_ROWS = 2048
_FLOOR = 0.03  # smallest standard deviation of the errors, in z-scores
_VARIANCE = 0.9  # of the history, explained by the principal components
_FILL_PASSES = 4  # missing readings are filled with their reconstruction, which is then repeated
_CENTRES = 32

# Subsequences float64 [n, steps * channel], NaN = no reading -> the nearest normal ones, the same shape without NaN.
Reconstruct = Callable[[Float64], Float64]


class SubsequenceScorer(PointwiseScorer):
    """Subclasses say what is learned from subsequences, and how one is reconstructed from it."""

    @abstractmethod
    def learn_subsequences(self, subsequences: Float64) -> dict[str, NDArray[np.generic]]:
        """subsequences: float64 [n, steps * channel], 0 (the centre) for missing readings."""

    @abstractmethod
    def reconstruction(self, arrays: Arrays) -> Reconstruct:
        """Over what `learn_subsequences` returned."""

    def learn(self, z: Float64) -> Learned:
        """Held-out errors: each half of the history reconstructed from what the other half taught."""
        steps, middle = _steps(z.shape[1]), len(z) // 2
        halves = (z[:middle], z[middle:])
        learned = [self.learn_subsequences(sample_subsequences(half, steps)) for half in halves]
        pairs = zip(halves, reversed(learned), strict=True)
        held_out = np.concatenate([_errors(half, steps, self.reconstruction(other))[0] for half, other in pairs])
        spread = np.maximum(np.sqrt(held_out.mean(axis=0)), _FLOOR)
        arrays = {"subsequence.spread": spread, **self.learn_subsequences(sample_subsequences(z, steps))}
        return Learned(arrays, [held_out / spread**2])

    def error_function(self, arrays: Arrays) -> ErrorFunction:
        spread = np.asarray(arrays["subsequence.spread"], np.float64)
        steps, reconstruct = _steps(len(spread)), self.reconstruction(arrays)

        def errors(z: Float64, _: int) -> PointErrors:
            squares, expected = _errors(z, steps, reconstruct)
            return PointErrors([squares / spread**2], expected, np.broadcast_to(spread, z.shape))

        return errors


class PcaScorer(SubsequenceScorer):
    """Shyu et al., "A novel anomaly detection scheme based on principal component classifier" (2003): what the
    components with 90% of the history's variance cannot reconstruct."""

    name = "pca"

    def learn_subsequences(self, subsequences: Float64) -> dict[str, NDArray[np.generic]]:
        from sklearn.decomposition import PCA

        mean = subsequences.mean(axis=0)
        if np.ptp(subsequences, axis=0).max() == 0:  # nothing moved: no variance to explain
            return {"pca.mean": mean, "pca.components": np.zeros((0, len(mean)))}
        fitted = PCA(n_components=_VARIANCE, svd_solver="covariance_eigh").fit(subsequences)
        return {"pca.mean": mean, "pca.components": np.asarray(fitted.components_, np.float64)}

    def reconstruction(self, arrays: Arrays) -> Reconstruct:
        mean = np.asarray(arrays["pca.mean"], np.float64)
        components = np.asarray(arrays["pca.components"], np.float64)

        def reconstruct(subsequences: Float64) -> Float64:
            missing = np.isnan(subsequences)
            centred = np.where(missing, 0.0, subsequences - mean)
            projected = (centred @ components.T) @ components
            for _ in range(_FILL_PASSES - 1 if missing.any() else 0):
                centred = np.where(missing, projected, centred)
                projected = (centred @ components.T) @ components
            return np.asarray(projected + mean, np.float64)

        return reconstruct


class KMeansScorer(SubsequenceScorer, SeededScorer):
    """Yairi et al., "Fault detection by mining association rules from house-keeping data" (2001): the distance to the
    nearest k-means centre, as in KMeansAD, the best single method of the published benchmark on multivariate series."""

    name = "kmeans"

    def learn_subsequences(self, subsequences: Float64) -> dict[str, NDArray[np.generic]]:
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.exceptions import ConvergenceWarning

        model = MiniBatchKMeans(min(_CENTRES, len(subsequences)), random_state=self.seed, n_init=3, batch_size=1024)
        with catch_warnings():
            simplefilter("ignore", ConvergenceWarning)  # fewer distinct subsequences than centres
            centres = model.fit(subsequences).cluster_centers_
        return {"kmeans.centres": np.asarray(centres, np.float64)}

    def reconstruction(self, arrays: Arrays) -> Reconstruct:
        centres = np.asarray(arrays["kmeans.centres"], np.float64)

        def reconstruct(subsequences: Float64) -> Float64:
            present = ~np.isnan(subsequences)
            distances = present @ np.square(centres).T - 2 * np.nan_to_num(subsequences) @ centres.T
            return np.asarray(centres[distances.argmin(axis=1)], np.float64)

        return reconstruct


def sample_subsequences(z: Float64, steps: int) -> Float64:
    """Up to 8,192 subsequences of the history, evenly spaced, float64 [n, steps * channel]."""
    view = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(z), steps, axis=0)
    picked = np.unique(np.linspace(0, len(view) - 1, min(len(view), _MOST_SUBSEQUENCES)).astype(np.int64))
    return np.asarray(view[picked].reshape(len(picked), -1), np.float64)


def _steps(channels: int) -> int:
    return int(np.clip(_MOST_VALUES // channels, 2, _MOST_STEPS))


def _errors(z: Float64, steps: int, reconstruct: Reconstruct) -> tuple[Float64, Float64]:
    """Squared errors, 0 for missing readings, and mean reconstruction, both [n, channel]."""
    squares, expected = np.zeros_like(z), np.zeros_like(z)
    count = np.zeros((len(z), 1))
    view = np.lib.stride_tricks.sliding_window_view(z, steps, axis=0)  # [n - steps + 1, channel, steps]
    for at in range(0, len(view), _CHUNK_ROWS):
        part = view[at : at + _CHUNK_ROWS]
        reconstructed = reconstruct(part.reshape(len(part), -1)).reshape(part.shape)
        errors = np.nan_to_num(np.square(part - reconstructed))
        for lag in range(steps):
            rows = slice(at + lag, at + lag + len(part))
            squares[rows] += errors[:, :, lag]
            expected[rows] += reconstructed[:, :, lag]
            count[rows] += 1
    return squares / count, expected / count
