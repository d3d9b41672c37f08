"""The closed-form imputer against formulas written out, and what must hold for any covariance and any mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_ad_models.imputer.gaussian import GaussianConditional, GaussianMoments

from stream_ad.errors import DataError

ENTRIES = 5


def gaussian(seed: int, entries: int = ENTRIES) -> GaussianConditional:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((entries, entries))
    return GaussianConditional(rng.standard_normal(entries), root @ root.T + 0.1 * np.eye(entries))


def drawn(model: GaussianConditional, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(model.mean, model.covariance, count)


masks = (
    st.lists(st.booleans(), min_size=ENTRIES, max_size=ENTRIES)
    .map(np.array)
    .filter(lambda mask: mask.any() and not mask.all())
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), masks)
def test_joint_density_is_the_visible_density_times_the_conditional_density(seed: int, visible: np.ndarray) -> None:
    model = gaussian(seed)
    rows = drawn(model, 4, seed)
    mean, covariance = model.condition(rows, visible)
    marginal = GaussianConditional(model.mean[visible], model.covariance[np.ix_(visible, visible)])
    rest = np.zeros(int((~visible).sum()))
    conditional = GaussianConditional(rest, covariance).log_density(rows[:, ~visible] - mean)
    np.testing.assert_allclose(model.log_density(rows), marginal.log_density(rows[:, visible]) + conditional, rtol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(0, ENTRIES - 1))
def test_residual_weights_are_the_conditional_given_all_others(seed: int, target: int) -> None:
    model = gaussian(seed)
    rows = drawn(model, 4, seed)
    visible = np.arange(ENTRIES) != target
    mean, covariance = model.condition(rows, visible)
    weights, variances = model.residual_weights([target])
    np.testing.assert_allclose((rows - model.mean) @ weights, rows[:, [target]] - mean, atol=1e-7)
    np.testing.assert_allclose(variances, covariance[0], rtol=1e-7)


def test_draws_have_the_conditional_moments_and_keep_what_is_visible() -> None:
    model, visible = gaussian(3), np.array([True, False, True, False, True])
    row = drawn(model, 1)
    rows = np.repeat(row, 40_000, axis=0)
    samples = model.sample(rows, visible, np.random.default_rng(1))
    mean, covariance = model.condition(row, visible)
    np.testing.assert_array_equal(samples[:, visible], rows[:, visible])
    np.testing.assert_allclose(samples[:, ~visible].mean(axis=0), mean[0], atol=0.05)
    np.testing.assert_allclose(np.cov(samples[:, ~visible].T), covariance, rtol=0.03)


def test_denoising_is_the_posterior_mean_of_noised_rows() -> None:
    model, sigma = gaussian(5, entries=2), 0.7
    clean = drawn(model, 400_000)
    noised = clean + sigma * np.random.default_rng(2).standard_normal(clean.shape)
    error = np.square(model.denoise(noised, sigma) - clean).mean()
    for other in (0.9, 1.1):  # any other linear denoiser does worse
        scaled = model.mean + other * (model.denoise(noised, sigma) - model.mean)
        assert error < np.square(scaled - clean).mean()
    np.testing.assert_allclose(model.denoise(clean[:5], 1e-6), clean[:5], atol=1e-4)


def test_missing_entries_get_their_conditional_mean() -> None:
    model = gaussian(7)
    rows = drawn(model, 6)
    holed = rows.copy()
    holed[1, [0, 3]] = holed[4, 2] = np.nan
    holed[5] = np.nan
    filled = model.impute(holed)
    visible = ~np.isnan(holed[1])
    np.testing.assert_allclose(filled[1, ~visible], model.condition(rows[1:2], visible)[0][0])
    np.testing.assert_allclose(filled[5], model.mean)
    np.testing.assert_array_equal(filled[~np.isnan(holed)], rows[~np.isnan(holed)])


def test_moments_add_and_subtract_exactly_as_rows_do() -> None:
    rows = np.random.default_rng(0).standard_normal((300, 3)) + 5
    whole, part = GaussianMoments.of(rows), GaussianMoments.of(rows[100:150])
    rest = whole - part
    alone = GaussianMoments.of(np.delete(rows, slice(100, 150), axis=0))
    np.testing.assert_allclose(rest.covariance, alone.covariance, atol=1e-9)
    np.testing.assert_allclose((rest + part).mean, rows.mean(axis=0))
    np.testing.assert_allclose(whole.scaled(0.5).covariance, whole.covariance)
    np.testing.assert_allclose(whole.covariance, np.cov(rows.T, bias=True), atol=1e-9)


def test_refusals() -> None:
    rows = np.zeros((4, 2))
    with pytest.raises(DataError, match="expected finite values"):
        GaussianMoments.of(np.full((4, 2), np.nan))
    with pytest.raises(DataError, match="expected fewer than 4 rows"):
        GaussianMoments.of(rows) - GaussianMoments.of(rows)
    with pytest.raises(DataError, match="ridge: expected a number over 0"):
        GaussianConditional.fit(GaussianMoments.of(rows), 0.0)
