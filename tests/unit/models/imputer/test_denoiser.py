"""The denoiser: EDM's identities, what it may and may not look at, and the sampler on a law whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from stream_ad_models.imputer.conditioning import autocorrelation, condition, condition_shared_mask, interpolate
from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig, preconditioning
from stream_ad_models.imputer.masks import stripe
from stream_ad_models.imputer.one_pass import FoldedDenoiser
from stream_ad_models.pretraining.pretrain import UNIVERSAL
from stream_ad_models.pretraining.trainer import Batch, FitSettings, diffusion_loss, fit, learning_rate
from stream_ad_models.research.sampler import heun, sigma_schedule
from torch import Tensor

SIGMAS = (0.01, 0.3, 1.0, 5.0, 40.0)


def _awake(config: DenoiserConfig | None = None) -> Denoiser:
    """A denoiser whose zero-initialised layers have been stirred, so that every path is live."""
    torch.manual_seed(0)
    model = Denoiser(config or DenoiserConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_preconditioning_keeps_unit_variance(sigma: float, sigma_data: float) -> None:
    """EDM appendix B.6: Var[c_in (y + n)] = 1 and Var[(y - c_skip (y + n)) / c_out] = 1."""
    factor = preconditioning(torch.tensor(sigma, dtype=torch.float64), sigma_data)
    y, n = sigma_data**2, sigma**2
    assert float(factor.c_in**2 * (y + n)) == pytest.approx(1)
    target_variance = ((1 - factor.c_skip) ** 2 * y + factor.c_skip**2 * n) / factor.c_out**2
    assert float(target_variance) == pytest.approx(1)


def test_sizes() -> None:
    assert 90_000 < sum(parameter.numel() for parameter in Denoiser(UNIVERSAL).parameters()) < 110_000
    assert 110_000 < sum(parameter.numel() for parameter in Denoiser(DenoiserConfig()).parameters()) < 140_000
    wide = sum(parameter.numel() for parameter in Denoiser(DenoiserConfig(channels=200)).parameters())
    assert wide < 1_500_000  # one map of all inputs to all outputs of a patch had 25 million


def test_interpolation_matches_the_obvious_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 64, 3)).astype(np.float32)
    mask = rng.random((40, 64, 3)) > rng.random((40, 1, 3))
    found = interpolate(torch.from_numpy(values), torch.from_numpy(mask)).numpy()
    for row, channel in np.ndindex(40, 3):
        seen = np.flatnonzero(mask[row, :, channel])
        expected = np.interp(np.arange(64), seen, values[row, seen, channel]) if len(seen) else np.zeros(64)
        assert np.allclose(found[row, :, channel], expected, atol=1e-5)


def test_condition_ignores_hidden_values_and_undoes_a_shift() -> None:
    rng = np.random.default_rng(1)
    values = torch.from_numpy(rng.standard_normal((8, 128, 2)).astype(np.float32))
    mask = torch.from_numpy(rng.random((8, 128, 2)) > 0.5)
    plain = condition(values, mask)
    stained = condition(torch.where(mask, values, 1e6), mask)
    moved = condition(values + 5, mask)
    for name in ("values", "mask", "guide", "autocorrelation", "centre", "scale"):
        assert torch.allclose(getattr(plain, name), getattr(stained, name)), name
    assert torch.allclose(plain.values, moved.values, atol=1e-4)
    assert torch.allclose(plain.centre + 5, moved.centre, atol=1e-4)


def test_condition_with_nothing_to_see_is_the_prior() -> None:
    given = condition(torch.full((1, 128, 1), 7.0), torch.zeros(1, 128, 1, dtype=torch.bool))
    assert float(given.centre) == 0
    assert float(given.scale) == 1
    assert not given.values.any()
    assert not given.guide.any()


def test_noise_at_visible_points_is_not_read() -> None:
    model = _awake()
    mask = torch.rand(4, 128, 1) > 0.5
    given = condition(torch.randn(4, 128, 1), mask)
    noisy = torch.randn(4, 128, 1)
    first = model(noisy, torch.tensor([0.7]), given)
    second = model(torch.where(mask, 99.0, noisy), torch.tensor([0.7]), given)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("channels", [1, 5])
def test_forward_shapes_and_positive_variance(channels: int) -> None:
    model = _awake(DenoiserConfig(channels=channels))
    given = condition(torch.randn(3, 128, channels), torch.rand(3, 128, channels) > 0.5)
    mean, variance = model(torch.randn(3, 128, channels), torch.tensor([0.1, 1.0, 40.0]), given)
    assert mean.shape == variance.shape == (3, 128, channels)
    assert (variance > 0).all()


def test_at_low_noise_the_input_is_nearly_the_answer() -> None:
    model = _awake()
    given = condition(torch.zeros(2, 128, 1), torch.zeros(2, 128, 1, dtype=torch.bool))
    noisy = torch.randn(2, 128, 1)
    mean, variance = model(noisy, torch.tensor([0.01]), given)
    assert (mean - noisy).abs().max() < 0.1
    assert variance.max() < 0.01


def test_impossible_config_says_expected_and_found() -> None:
    with pytest.raises(ValueError, match="multiple of patch_steps = 8, found 100"):
        DenoiserConfig(window_steps=100)
    with pytest.raises(ValueError, match="multiple of heads = 4, found 30"):
        DenoiserConfig(width=30)


def _sine_batches(seed: int) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    while True:
        phase = rng.random((16, 1, 1))
        values = np.sin(2 * np.pi * (np.arange(128)[None, :, None] / 16 + phase)).astype(np.float32)
        cond = np.broadcast_to((np.arange(128) // 8 % 2 == 0)[None, :, None], values.shape).copy()
        yield Batch(values, cond, ~cond)


def _loss(model: Denoiser, batch: Batch) -> float:
    with torch.no_grad():
        return float(diffusion_loss(model, batch, torch.Generator().manual_seed(1), FitSettings(steps=1)))


def test_fit_learns_and_repeats() -> None:
    def run() -> tuple[Denoiser, float]:
        torch.manual_seed(0)
        model = Denoiser(DenoiserConfig())
        settings = FitSettings(steps=25, warmup_steps=3)
        return model, fit(model, _sine_batches(0), settings, torch.Generator().manual_seed(0))

    torch.manual_seed(0)
    fresh = Denoiser(DenoiserConfig())
    batch = next(_sine_batches(9))
    before = _loss(fresh, batch)
    (model, loss), (again, loss_again) = run(), run()
    after = _loss(model, batch)
    assert after < 0.8 * before
    assert loss == loss_again
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_learning_rate_warms_up_and_falls() -> None:
    settings = FitSettings(steps=100, warmup_steps=10, rate=1.0)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.02


def test_sigma_schedule_falls_from_max_to_zero() -> None:
    levels = sigma_schedule(10, 0.01, 40.0)
    assert levels[0] == pytest.approx(40.0, rel=1e-5)
    assert levels[-2] == pytest.approx(0.01, rel=1e-4)
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()
    with pytest.raises(ValueError, match="at least 2 steps, found 1"):
        sigma_schedule(1, 0.01, 40.0)


def _gaussian(mean: float, spread: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact denoiser of N(mean, spread^2)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)

    return denoise


def _heun_error(steps: int) -> float:
    mean, spread = 3.0, 0.5
    start = torch.linspace(-80, 80, 41, dtype=torch.float64)
    levels = sigma_schedule(steps, 0.002, 40.0).to(torch.float64)
    found = heun(_gaussian(mean, spread), start, levels)
    exact = mean + (start - mean) * spread / np.sqrt(spread**2 + 40.0**2)
    return float((found - exact).abs().max())


def test_sampler_reaches_a_known_gaussian_at_second_order() -> None:
    assert _heun_error(32) < 0.02
    assert _heun_error(64) < 0.4 * _heun_error(32)


@pytest.mark.parametrize(("period", "width"), [(9.0, 16), (12.0, 8), (18.0, 16), (23.5, 32)])
def test_autocorrelation_continues_a_period_through_a_gap(period: float, width: int) -> None:
    cycles = torch.arange(128) / period + torch.linspace(0, 0.9, 4)[:, None]
    values = torch.sin(2 * torch.pi * cycles)[..., None]
    mask = torch.from_numpy(stripe(128, width))[None, :, None].expand_as(values)
    given = condition(values, mask)
    hidden = ((values - given.centre) / given.scale)[~mask]
    assert (given.autocorrelation[~mask] - hidden).square().mean() < 0.02
    assert (given.guide[~mask] - hidden).square().mean() > 1.0


def test_autocorrelation_equals_the_reference() -> None:
    rng = np.random.default_rng(3)
    mask = torch.from_numpy(rng.random((5, 64, 2)) > 0.4)
    seen = torch.from_numpy(rng.standard_normal((5, 64, 2)).astype(np.float32)) * mask
    guide = interpolate(seen, mask)
    found = autocorrelation(seen, mask.float(), guide).numpy()
    for row, channel in np.ndindex(5, 2):
        expected = _naive_echo(*(part[row, :, channel].double().numpy() for part in (seen, mask, guide)))
        assert np.allclose(found[row, :, channel], expected, atol=1e-3)


def _naive_echo(seen: np.ndarray, mask: np.ndarray, guide: np.ndarray) -> np.ndarray:
    weights = np.full(64, np.inf)
    for lag in range(1, 64):
        both = (mask[lag:] * mask[:-lag]) > 0
        if both.sum() >= 8:
            weights[lag] = np.mean((seen[lag:] - seen[:-lag])[both] ** 2) + 0.5 / both.sum()
    weights = np.exp(-(weights - weights.min()) / (0.05 + weights.min() / 4))
    out = np.empty(64)
    for step in range(64):
        pull = [(weights[abs(step - other)], seen[other]) for other in range(64) if mask[other] and other != step]
        out[step] = (sum(w * v for w, v in pull) + 1e-3 * guide[step]) / (sum(w for w, _ in pull) + 1e-3)
    return out


def test_autocorrelation_without_a_lag_is_the_guide() -> None:
    values = torch.randn(3, 128, 1)
    mask = torch.zeros(3, 128, 1, dtype=torch.bool)
    mask[:, ::40] = True
    given = condition(values, mask)
    assert torch.allclose(given.autocorrelation, given.guide, atol=1e-5)


@pytest.mark.parametrize("width", [1, 7, 16, 128])
def test_shared_mask_conditions_equal_the_general_ones(width: int) -> None:
    values = torch.randn(6, 128, 3).cumsum(dim=1)
    values[1] = 4.0
    values[2, 40] = 1000.0
    mask = torch.from_numpy(~stripe(128, width))
    given = condition(values, mask[None, :, None].expand_as(values))
    shared = condition_shared_mask(values, mask)
    for name in ("values", "mask", "guide", "autocorrelation", "centre", "scale"):
        assert torch.allclose(getattr(given, name), getattr(shared, name).expand_as(getattr(given, name)), atol=1e-4), (
            name
        )


@pytest.mark.parametrize(("channels", "patch", "blocks"), [(1, 8, 2), (5, 16, 1), (2, 8, 0)])
def test_one_pass_is_the_denoiser_at_sigma_max(channels: int, patch: int, blocks: int) -> None:
    model = _awake(DenoiserConfig(channels=channels, patch_steps=patch, blocks=blocks))
    given = condition(torch.randn(4, 128, channels), torch.rand(4, 128, channels) > 0.5)
    mean, variance = model(torch.zeros(4, 128, channels), torch.tensor([model.config.sigma_max]), given)
    one_pass = FoldedDenoiser(model)
    for steps in (slice(0, 128), slice(96, 112), slice(20, 21)):
        here = one_pass.covered(steps)
        assert here.start <= steps.start < steps.stop <= here.stop
        found_mean, found_variance = one_pass(given, steps)
        assert torch.allclose(found_mean, mean[:, here], atol=1e-5)
        assert torch.allclose(found_variance, variance[:, here], rtol=1e-4)
