"""Draws of the hidden points: Heun's second-order steps (EDM) and DPM-Solver++ (2M), one network pass a step.

Bands of one pass's mean and variance come with `DenoiserImputer.impute`; draws are joint over the window. What a
draw costs and how well quantiles of draws hold their coverage: benchmarks/accuracy/bands.py.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from stream_ad_models.imputer.conditioning import Condition
from stream_ad_models.imputer.denoiser import Denoiser

__all__ = ["Denoise", "Solver", "denoiser_of", "dpm_solver_2m", "heun", "sample_targets", "sigma_schedule"]

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x at noise level sigma, sigma [1]) -> clean mean D(x; sigma)
Solver = Literal["heun", "dpm++"]

_RHO = 7.0


def sigma_schedule(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels t_0 = sigma_max > ... > t_(n-1) = sigma_min, t_n = 0 (EDM eq. 5, rho = 7): float32 [steps + 1]."""
    if steps < 2:
        raise ValueError(f"sampler: expected at least 2 steps, found {steps}")
    part = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    low, high = sigma_min ** (1 / _RHO), sigma_max ** (1 / _RHO)
    levels = (high + part * (low - high)) ** _RHO
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]).to(torch.float32)


def heun(denoise: Denoise, start: Tensor, levels: Tensor) -> Tensor:
    """EDM algorithm 1 (Karras et al. 2022): follow dx/dsigma = (x - D(x; sigma)) / sigma from levels[0] down to 0.

    start: x at levels[0]. Two passes a step, one in the last: 2 n - 1 for n steps.
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


def dpm_solver_2m(denoise: Denoise, start: Tensor, levels: Tensor) -> Tensor:
    """DPM-Solver++ (2M) (Lu et al. 2022, algorithm 2) with alpha = 1 and lambda = -ln sigma; one pass a step.

    x_i = (sigma_i / sigma_(i-1)) x_(i-1) - (e^(-h_i) - 1) [(1 + 1 / 2r_i) D_(i-1) - 1 / 2r_i D_(i-2)] with
    r_i = h_(i-1) / h_i; the first step, and the last one to sigma = 0, are of first order. start: x at levels[0].
    """
    moving, before, width_before = start, start, torch.ones(())
    for number, (now, following) in enumerate(pairwise(levels)):
        clean = denoise(moving, now.view(1))
        width = torch.log(now / following)  # infinite in the last step
        aim = clean
        if number and following > 0:
            half_ratio = width / (2 * width_before)
            aim = (1 + half_ratio) * clean - half_ratio * before
        moving = (following / now) * moving + (1 - following / now) * aim
        before, width_before = clean, width
    return moving


def denoiser_of(model: Denoiser, given: Condition) -> Denoise:
    """The network under one condition, as the solvers take it: standardised units."""
    return lambda noisy, sigma: model(noisy, sigma, given)[0]


def sample_targets(
    model: Denoiser, given: Condition, steps: int, generator: torch.Generator, solver: Solver = "heun"
) -> Tensor:
    """One joint draw of the hidden points, standardised, [batch, window, channel]."""
    levels = sigma_schedule(steps, model.config.sigma_min, model.config.sigma_max)
    start = torch.randn(given.values.shape, generator=generator) * levels[0]
    solve = dpm_solver_2m if solver == "dpm++" else heun
    return solve(denoiser_of(model, given), start, levels)
