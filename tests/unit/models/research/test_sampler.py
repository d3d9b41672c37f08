"""DPM-Solver++ and the guided reconstruction on laws whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stream_ad_models.imputer.conditioning import condition
from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig
from stream_ad_models.research.sampler import Denoise, dpm_solver_2m, heun, sample_targets, sigma_schedule
from stream_ad_models.research.scores import feature_distance, features, guided_reconstruction
from torch import Tensor


def _gaussian(mean: float, spread: float) -> Denoise:
    """The exact denoiser of N(mean, spread^2)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)

    return denoise


def _counted(denoise: Denoise) -> tuple[Denoise, list[float]]:
    calls: list[float] = []

    def count(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma))
        return denoise(x, sigma)

    return count, calls


def _dpm_error(steps: int) -> float:
    mean, spread = 3.0, 0.5
    start = torch.linspace(-80, 80, 41, dtype=torch.float64)
    levels = sigma_schedule(steps, 0.002, 40.0).to(torch.float64)
    found = dpm_solver_2m(_gaussian(mean, spread), start, levels)
    exact = mean + (start - mean) * spread / np.sqrt(spread**2 + 40.0**2)
    return float((found - exact).abs().max())


def test_dpm_solver_reaches_a_known_gaussian_at_second_order() -> None:
    assert _dpm_error(64) < 0.02
    assert _dpm_error(64) < 0.4 * _dpm_error(32)


def test_dpm_solver_takes_one_pass_a_step_and_heun_two() -> None:
    start, levels = torch.randn(5, dtype=torch.float64) * 40, sigma_schedule(8, 0.01, 40.0).double()
    for solve, passes in ((dpm_solver_2m, 8), (heun, 15)):
        denoise, calls = _counted(_gaussian(0.0, 1.0))
        solve(denoise, start, levels)
        assert len(calls) == passes


def test_dpm_solver_is_exact_where_the_answer_is_a_constant() -> None:
    found = dpm_solver_2m(_gaussian(2.0, 0.0), torch.tensor([-50.0, 90.0]), sigma_schedule(4, 0.01, 40.0))
    assert torch.allclose(found, torch.full((2,), 2.0))


@pytest.mark.parametrize("solver", ["heun", "dpm++"])
def test_draws_repeat_and_hold_the_window_shape(solver: str) -> None:
    torch.manual_seed(0)
    model = Denoiser(DenoiserConfig())
    given = condition(torch.randn(3, 128, 1), torch.rand(3, 128, 1) > 0.5)
    with torch.inference_mode():
        first, again = (
            sample_targets(model, given, 3, torch.Generator().manual_seed(4), solver)
            for _ in range(2)  # type: ignore[arg-type]
        )
    assert first.shape == (3, 128, 1)
    assert torch.equal(first, again)
    assert torch.isfinite(first).all()


def test_guidance_draws_the_reconstruction_towards_the_input() -> None:
    """N(0, .1^2) with an input at 3: unguided it comes back near 0, and the nearer the input the larger the weight."""
    levels = sigma_schedule(12, 0.01, 2.0)
    clean = torch.full((1, 16, 1), 3.0)
    noise = torch.randn(1, 16, 1, generator=torch.Generator().manual_seed(0))
    denoise = _gaussian(0.0, 0.1)
    found = [float(guided_reconstruction(denoise, clean, levels, weight, noise).mean()) for weight in (0.0, 0.5, 1.0)]
    assert abs(found[0]) < 0.3
    assert found[0] < found[1] < found[2] < 3.0


def test_guidance_leaves_what_the_denoiser_knows() -> None:
    clean = torch.randn(1, 16, 1)
    found = guided_reconstruction(lambda x, _: clean, clean, sigma_schedule(6, 0.01, 2.0), 1.0, torch.randn(1, 16, 1))
    assert torch.allclose(found, clean, atol=1e-5)


def test_features_distinguish_windows_by_patch() -> None:
    torch.manual_seed(0)
    model = Denoiser(DenoiserConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        window = torch.randn(2, 128, 1)
        other = window.clone()
        other[:, 64:72] += 5.0
        given = condition(window, torch.zeros(2, 128, 1, dtype=torch.bool))
        sigma = torch.tensor([0.1])
        found = [features(model, each, sigma, given) for each in (window, other)]
        apart = feature_distance(found[0], found[1], model.config.patch_steps)
        assert not feature_distance(found[0], found[0], model.config.patch_steps).abs().max() > 1e-5
    assert found[0].shape == (2, 16, 64)
    assert apart.shape == (2, 128, 1)
    assert (apart[:, 64:72] > apart[:, :64].amax(dim=1, keepdim=True)).all()
    assert not model.read._forward_pre_hooks
