"""Sub-sequence baselines against the obvious way."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from stream_ad_models.baselines.subsequences import KMeansScorer, PcaScorer, sample_subsequences

STEPS = 32


def _rows(n: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    return np.sin(2 * np.pi * t / np.array([20, 33])) + 0.1 * rng.standard_normal((n, 2))


def test_taught_by_is_every_subsequence_of_a_short_history() -> None:
    rows = _rows(100)
    found = sample_subsequences(rows, STEPS)
    expected = [rows[at : at + STEPS].T.reshape(-1) for at in range(100 - STEPS + 1)]
    np.testing.assert_array_equal(found, expected)
    assert len(sample_subsequences(_rows(20_000), STEPS)) == 8192


def test_pca_reconstructs_as_scikit_learn() -> None:
    scorer, taught, later = PcaScorer(), sample_subsequences(_rows(), STEPS), sample_subsequences(_rows(seed=1), STEPS)
    fitted = PCA(n_components=0.9).fit(taught)
    found = scorer.reconstruction(scorer.learn_subsequences(taught))(later)
    np.testing.assert_allclose(found, fitted.inverse_transform(fitted.transform(later)), atol=1e-9)


def test_pca_fills_what_is_missing() -> None:
    scorer, taught, later = PcaScorer(), sample_subsequences(_rows(), STEPS), sample_subsequences(_rows(seed=1), STEPS)
    reconstruct = scorer.reconstruction(scorer.learn_subsequences(taught))
    holed = np.where(np.random.default_rng(0).random(later.shape) < 0.1, np.nan, later)
    assert np.square(reconstruct(holed) - later).mean() < 2 * np.square(reconstruct(later) - later).mean()


def test_kmeans_finds_the_nearest_centre() -> None:
    scorer, taught, later = (
        KMeansScorer(),
        sample_subsequences(_rows(), STEPS),
        sample_subsequences(_rows(seed=1), STEPS),
    )
    arrays = scorer.learn_subsequences(taught)
    theirs = MiniBatchKMeans(32, random_state=0, n_init=3, batch_size=1024).fit(taught)
    expected = theirs.cluster_centers_[theirs.predict(later)]
    reconstruct = scorer.reconstruction(arrays)
    np.testing.assert_allclose(reconstruct(later), expected, atol=1e-9)
    holed = np.where(np.random.default_rng(0).random(later.shape) < 0.1, np.nan, later)
    centres = np.asarray(arrays["kmeans.centres"])
    nearest = [np.nansum(np.square(centres - row), axis=1).argmin() for row in holed]
    np.testing.assert_allclose(reconstruct(holed), centres[nearest])
