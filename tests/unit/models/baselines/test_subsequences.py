"""Sub-sequence baselines against the obvious way."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from stream_ad_models.baselines.kmeans import KMeansScorer
from stream_ad_models.baselines.pca import PcaScorer
from stream_ad_models.baselines.subsequences import taught_by

STEPS = 32


def _rows(n: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    return np.sin(2 * np.pi * t / np.array([20, 33])) + 0.1 * rng.standard_normal((n, 2))


def test_taught_by_is_every_subsequence_of_a_short_history() -> None:
    rows = _rows(100)
    found = taught_by(rows, STEPS)
    expected = [rows[at : at + STEPS].T.reshape(-1) for at in range(100 - STEPS + 1)]
    np.testing.assert_array_equal(found, expected)
    assert len(taught_by(_rows(20_000), STEPS)) == 8192


def test_pca_rebuilds_as_scikit_learn() -> None:
    scorer, taught, later = PcaScorer(), taught_by(_rows(), STEPS), taught_by(_rows(seed=1), STEPS)
    fitted = PCA(n_components=0.9).fit(taught)
    found = scorer.rebuilder(scorer.teach(taught))(later)
    np.testing.assert_allclose(found, fitted.inverse_transform(fitted.transform(later)), atol=1e-9)


def test_pca_fills_what_is_missing() -> None:
    scorer, taught, later = PcaScorer(), taught_by(_rows(), STEPS), taught_by(_rows(seed=1), STEPS)
    rebuild = scorer.rebuilder(scorer.teach(taught))
    holed = np.where(np.random.default_rng(0).random(later.shape) < 0.1, np.nan, later)
    assert np.square(rebuild(holed) - later).mean() < 2 * np.square(rebuild(later) - later).mean()


def test_kmeans_finds_the_nearest_centre() -> None:
    scorer, taught, later = KMeansScorer(), taught_by(_rows(), STEPS), taught_by(_rows(seed=1), STEPS)
    arrays = scorer.teach(taught)
    theirs = MiniBatchKMeans(32, random_state=0, n_init=3, batch_size=1024).fit(taught)
    expected = theirs.cluster_centers_[theirs.predict(later)]
    rebuild = scorer.rebuilder(arrays)
    np.testing.assert_allclose(rebuild(later), expected, atol=1e-9)
    holed = np.where(np.random.default_rng(0).random(later.shape) < 0.1, np.nan, later)
    centres = np.asarray(arrays["kmeans.centres"])
    nearest = [np.nansum(np.square(centres - row), axis=1).argmin() for row in holed]
    np.testing.assert_allclose(rebuild(holed), centres[nearest])
