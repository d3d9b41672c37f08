"""Draws of the hidden points by the EDM sampler (Karras et al. 2022, algorithm 1: Heun's second-order steps)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from stream_ad_models.conditioning import Condition
from stream_ad_models.denoiser import Denoiser

__all__ = ["heun", "sample_targets", "sigma_schedule"]

_RHO = 7.0


def sigma_schedule(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels t_0 = sigma_max > ... > t_(n-1) = sigma_min, t_n = 0 (EDM eq. 5, rho = 7): float32 [steps + 1]."""
    if steps < 2:
        raise ValueError(f"sampler: expected at least 2 steps, found {steps}")
    part = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    low, high = sigma_min ** (1 / _RHO), sigma_max ** (1 / _RHO)
    levels = (high + part * (low - high)) ** _RHO
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]).to(torch.float32)


def heun(denoise: Callable[[Tensor, Tensor], Tensor], start: Tensor, levels: Tensor) -> Tensor:
    """EDM algorithm 1: follow dx/dsigma = (x - D(x; sigma)) / sigma from levels[0] down to 0.

    denoise(x, sigma [1]) -> x's clean mean. start: x at levels[0].
    """
    moving = start
    for now, following in pairwise(levels):
        slope = (moving - denoise(moving, now.view(1))) / now
        euler = moving + (following - now) * slope
        if following > 0:
            slope_after = (euler - denoise(euler, following.view(1))) / following
            euler = moving + (following - now) * (slope + slope_after) / 2
        moving = euler
    return moving


def sample_targets(model: Denoiser, given: Condition, steps: int, generator: torch.Generator) -> Tensor:
    """One joint draw of the hidden points, standardised, [batch, window, channel]."""
    levels = sigma_schedule(steps, model.config.sigma_min, model.config.sigma_max)
    start = torch.randn(given.values.shape, generator=generator) * levels[0]
    return heun(lambda noisy, sigma: model(noisy, sigma, given)[0], start, levels)
