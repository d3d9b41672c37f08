"""Density, denoising losses and score against Gaussian processes, whose denoiser and density are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from stream_ad_models.imputer.conditioning import condition
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.research.sampler import Denoise, denoiser_of
from stream_ad_models.research.scores import (
    denoising_losses,
    log_density,
    log_levels,
    loss_sum,
    random_signs,
    score,
    score_squares,
)
from torch import Tensor

STEPS = 24
SHAPE = (1, STEPS, 1)


def _covariance(coefficient: float = 0.8) -> Tensor:
    """Of an AR(1) process of unit variance."""
    apart = torch.arange(STEPS, dtype=torch.float64)[:, None] - torch.arange(STEPS, dtype=torch.float64)
    return coefficient ** apart.abs()


def _paths(count: int, seed: int = 0) -> Tensor:
    """Draws of the process, float64 [count, window, 1]."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn((count, STEPS), generator=generator, dtype=torch.float64)
    return (white @ torch.linalg.cholesky(_covariance()).T)[..., None]


def _exact(mean: Tensor, covariance: Tensor) -> Denoise:
    """D(x; sigma) = m + C (C + sigma^2 I)^-1 (x - m) of N(m, C). mean: [batch, n]."""

    values, vectors = torch.linalg.eigh(covariance)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        gain = (vectors * (values / (values + sigma**2))) @ vectors.T
        return (mean + (x[..., 0] - mean) @ gain)[..., None]

    return denoise


def _log_normal(values: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    apart = torch.atleast_2d(values - mean)
    distance = (apart * torch.linalg.solve(covariance, apart.T).T).sum(dim=-1)
    return -0.5 * (distance + torch.logdet(covariance) + len(covariance) * math.log(2 * math.pi))


def _signs(probes: int, paths: int) -> Tensor:
    return random_signs((probes, paths, STEPS, 1), torch.Generator().manual_seed(1))


def _levels(count: int, low: float = 0.05, high: float = 40.0) -> Tensor:
    return log_levels(count, low, high).double()


def test_density_of_a_gaussian_process() -> None:
    """One probe a path leaves each path's trace noisy, but without bias; so do far paths."""
    paths = _paths(200)
    paths[100:] += 3.0
    denoise = _exact(torch.zeros(STEPS, dtype=torch.float64), _covariance())
    found = log_density(denoise, paths, torch.ones(SHAPE), _levels(61), _signs(1, 200))
    smoothed = _covariance() + 0.05**2 * torch.eye(STEPS, dtype=torch.float64)
    exact = _log_normal(paths[..., 0], torch.zeros(STEPS, dtype=torch.float64), smoothed)
    error = found.sum(dim=(1, 2)) - exact
    assert error.std() < 6
    for half in (slice(0, 100), slice(100, 200)):
        assert (
            abs(float(error[half].mean())) < 3 * float(error[half].std()) / math.sqrt(100) + 0.2
        )  # noise; the steps' error
    assert np.corrcoef(found.sum(dim=(1, 2)), exact)[0, 1] > 0.75


def test_more_probes_less_noise() -> None:
    paths = _paths(60)
    denoise = _exact(torch.zeros(STEPS, dtype=torch.float64), _covariance())
    smoothed = _covariance() + 0.05**2 * torch.eye(STEPS, dtype=torch.float64)
    exact = _log_normal(paths[..., 0], torch.zeros(STEPS, dtype=torch.float64), smoothed)

    def noise(probes: int) -> float:
        found = log_density(denoise, paths, torch.ones(SHAPE), _levels(31), _signs(probes, 60))
        return float((found.sum(dim=(1, 2)) - exact).std())

    assert noise(16) < 0.4 * noise(1)


def test_density_error_falls_with_the_square_of_the_step() -> None:
    """White noise: Hutchinson's estimate of a diagonal Jacobian is exact, so what is left is the ODE's error."""
    values = _paths(3)
    denoise = _exact(torch.zeros(STEPS, dtype=torch.float64), torch.eye(STEPS, dtype=torch.float64))
    exact = _log_normal(
        values[..., 0], torch.zeros(STEPS, dtype=torch.float64), 1.0025 * torch.eye(STEPS, dtype=torch.float64)
    )

    def error(count: int) -> float:
        found = log_density(denoise, values, torch.ones(SHAPE), _levels(count), _signs(1, 1))
        return float((found.sum(dim=(1, 2)) - exact).abs().max())

    assert error(161) < 0.05
    assert error(161) < 0.3 * error(81)


def test_density_of_the_hidden_part_given_the_visible() -> None:
    """log p(hidden | visible) = log p(all) - log p(visible); visible points neither move nor count."""
    path = _paths(1, seed=3)
    copies = path.repeat(200, 1, 1)  # each with its own probe
    hidden = torch.zeros(SHAPE, dtype=torch.float64)
    hidden[:, 8:16] = 1.0
    out, seen = slice(8, 16), [*range(8), *range(16, STEPS)]
    covariance = _covariance()
    regress = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, out]).T
    mean = regress @ path[0, seen, 0]
    within = covariance[out, out] - regress @ covariance[seen][:, out]
    inner = _exact(mean[None], within)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        everywhere = torch.full_like(x, 7.0)  # a network predicts visible points too
        return torch.cat([everywhere[:, :8], inner(x[:, out], sigma), everywhere[:, 16:]], dim=1)

    found = log_density(denoise, copies, hidden, _levels(121), _signs(1, 200))
    exact = _log_normal(path[0, out, 0], mean, within + 0.05**2 * torch.eye(8, dtype=torch.float64))
    totals = found.sum(dim=(1, 2))
    assert float(totals.mean()) == pytest.approx(float(exact), abs=3 * float(totals.std()) / math.sqrt(200) + 0.05)
    assert not found[:, hidden[0] == 0].any()


def test_loss_sum_orders_windows_by_their_density() -> None:
    """Kong et al. 2023: for the exact denoiser the sum over all levels is -log p up to a constant."""
    pair = _paths(2, seed=5)
    pair[1] *= 2.0
    denoise = _exact(torch.zeros(STEPS, dtype=torch.float64), _covariance())
    levels = _levels(40, 0.003, 300.0)
    totals = []
    for path in pair:  # the same noise for both
        copies = path[None].repeat(3000, 1, 1)
        noise = torch.randn(3000, STEPS, 1, generator=torch.Generator().manual_seed(2))
        losses = denoising_losses(denoise, copies, torch.ones(SHAPE), levels, noise)
        totals.append(float(loss_sum(losses, levels).sum(dim=(1, 2)).mean()))
    exact = _log_normal(pair[..., 0], torch.zeros(STEPS, dtype=torch.float64), _covariance())
    assert exact[0] - exact[1] > 10
    assert totals[1] - totals[0] == pytest.approx(float(exact[0] - exact[1]), rel=0.05)


def test_the_shipped_network_finds_a_broken_process_less_likely() -> None:
    """A sanity check on windows of an AR(1): with a jump of five spreads for 8 steps each becomes less likely."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.zeros(16, 128, 1)
    white = torch.randn(16, 128, generator=generator) * 0.6
    for step in range(1, 128):
        normal[:, step, 0] = 0.8 * normal[:, step - 1, 0] + white[:, step]
    broken = normal.clone()
    broken[:, 60:68] += 5.0
    model = UniversalImputer.load().model
    denoise = denoiser_of(model, condition(normal, torch.zeros_like(normal, dtype=torch.bool)))
    signs = random_signs((1, 1, 128, 1), generator)
    likely, unlikely = (
        log_density(denoise, each, torch.ones_like(each), log_levels(8, 0.1, 40.0), signs).sum(dim=(1, 2))
        for each in (normal, broken)
    )
    assert (likely > unlikely).all()


def test_losses_count_hidden_points_alone() -> None:
    hidden = torch.zeros(SHAPE)
    hidden[:, ::2] = 1.0
    levels = log_levels(3, 0.1, 1.0)
    losses = denoising_losses(lambda x, _: x + 1, torch.zeros(SHAPE), hidden, levels, torch.ones(SHAPE))
    assert losses.shape == (3, *SHAPE)
    assert not losses[:, hidden == 0].any()
    assert losses[:, hidden > 0].all()


def test_score_of_a_gaussian_process() -> None:
    """s(x; sigma) = -(C + sigma^2 I)^-1 x."""
    paths = _paths(4)
    denoise = _exact(torch.zeros(STEPS, dtype=torch.float64), _covariance())
    sigma = torch.tensor(0.3, dtype=torch.float64)
    noisy = _covariance() + 0.09 * torch.eye(STEPS, dtype=torch.float64)
    exact = -torch.linalg.solve(noisy, paths[..., 0].T).T
    assert torch.allclose(score(denoise, paths, torch.ones(SHAPE), sigma)[..., 0], exact)
    squares = score_squares(denoise, paths, torch.ones(SHAPE), torch.tensor([0.3, 0.3], dtype=torch.float64))
    assert torch.allclose(squares[..., 0], 0.09 * exact**2)
    jump = paths.clone()
    jump[:, 12] += 5.0
    assert (score_squares(denoise, jump, torch.ones(SHAPE), sigma.view(1))[:, 12] > 2 * squares[:, 12]).all()


def test_levels_are_even_in_the_logarithm() -> None:
    levels = log_levels(5, 0.01, 100.0)
    assert np.allclose(np.diff(np.log10(levels.numpy())), 1.0)
    assert float(levels[-1]) == pytest.approx(100.0)
    with pytest.raises(ValueError, match="2 or more between 0 < low < high, found 1 from"):
        log_levels(1, 0.1, math.e)
