"""Baseline: reconstruction error of principal components (scikit-learn).

Shyu et al., "A novel anomaly detection scheme based on principal component classifier" (2003), over sub-sequences:
what the components that hold 90% of the history's variance cannot rebuild.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from stream_ad_models.baselines.base import Arrays
from stream_ad_models.baselines.subsequences import Rebuilder, SubsequenceScorer

Float64 = NDArray[np.float64]

__all__ = ["PcaScorer"]

_VARIANCE = 0.9
_FILL_PASSES = 4  # missing readings are filled by what was rebuilt, and rebuilt again


class PcaScorer(SubsequenceScorer):
    name = "pca"
    revision = "1"

    def teach(self, subsequences: Float64) -> dict[str, NDArray[np.generic]]:
        mean = subsequences.mean(axis=0)
        if np.ptp(subsequences, axis=0).max() == 0:  # nothing moved: no variance to explain
            return {"pca.mean": mean, "pca.components": np.zeros((0, len(mean)))}
        fitted = PCA(n_components=_VARIANCE, svd_solver="covariance_eigh").fit(subsequences)
        return {"pca.mean": mean, "pca.components": np.asarray(fitted.components_, np.float64)}

    def rebuilder(self, arrays: Arrays) -> Rebuilder:
        mean = np.asarray(arrays["pca.mean"], np.float64)
        components = np.asarray(arrays["pca.components"], np.float64)

        def rebuild(subsequences: Float64) -> Float64:
            missing = np.isnan(subsequences)
            centred = np.where(missing, 0.0, subsequences - mean)
            projected = (centred @ components.T) @ components
            for _ in range(_FILL_PASSES - 1 if missing.any() else 0):
                centred = np.where(missing, projected, centred)
                projected = (centred @ components.T) @ components
            return np.asarray(projected + mean, np.float64)

        return rebuild
