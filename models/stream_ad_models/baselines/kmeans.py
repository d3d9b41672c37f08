"""Baseline: distance to the nearest k-means centre of sub-sequences (scikit-learn), as KMeansAD does it.

Yairi et al., "Fault detection by mining association rules from house-keeping data" (2001); the best single method of
the published benchmark on its multivariate series.
"""

from __future__ import annotations

from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from stream_ad_models.baselines.base import Arrays
from stream_ad_models.baselines.subsequences import Rebuilder, SubsequenceScorer
from stream_ad_models.defaults import DELAY_STEPS, HOP_STEPS

Float64 = NDArray[np.float64]

__all__ = ["KMeansScorer"]

_CENTRES = 32


class KMeansScorer(SubsequenceScorer):
    name = "kmeans"
    revision = "1"

    def __init__(self, seed: int = 0, *, hop_steps: int = HOP_STEPS, delay_steps: int = DELAY_STEPS) -> None:
        super().__init__(hop_steps=hop_steps, delay_steps=delay_steps)
        self._seed = seed

    def teach(self, subsequences: Float64) -> dict[str, NDArray[np.generic]]:
        model = MiniBatchKMeans(min(_CENTRES, len(subsequences)), random_state=self._seed, n_init=3, batch_size=1024)
        with catch_warnings():
            simplefilter("ignore", ConvergenceWarning)  # fewer distinct sub-sequences than centres: some coincide
            centres = model.fit(subsequences).cluster_centers_
        return {"kmeans.centres": np.asarray(centres, np.float64)}

    def rebuilder(self, arrays: Arrays) -> Rebuilder:
        centres = np.asarray(arrays["kmeans.centres"], np.float64)

        def rebuild(subsequences: Float64) -> Float64:
            present = ~np.isnan(subsequences)
            distances = present @ np.square(centres).T - 2 * np.nan_to_num(subsequences) @ centres.T
            return np.asarray(centres[distances.argmin(axis=1)], np.float64)

        return rebuild
