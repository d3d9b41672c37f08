"""Conditionals under any mask: one pass, or joint draws by Heun's second-order steps (EDM) and DPM-Solver++ (2M).

The product needs only one pass under stripe masks (`DenoiserImputer.impute`). What draws cost and how well their
quantiles hold their coverage: benchmarks/accuracy/bands.py.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad.errors import DataError
from stream_ad_models.imputer.conditioning import Condition, condition
from stream_ad_models.imputer.denoiser import Denoiser
from stream_ad_models.imputer.imputer import DenoiserImputer, Imputation

__all__ = [
    "Denoise", "Solver", "denoiser_of", "dpm_solver_2m", "heun", "impute_masked", "sample", "sample_targets",
    "sigma_schedule",
]  # fmt: skip

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x at noise level sigma, sigma [1]) -> clean mean D(x; sigma)
Solver = Literal["heun", "dpm++"]

_RHO = 7.0
_CHUNK_ROWS = 256


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


def impute_masked(imputer: DenoiserImputer, windows: Float32, cond_mask: Bool) -> Imputation:
    """One pass with the caller's own condition; visible points are returned as they are, with std 0.

    cond_mask: bool [batch, window, channel], True = the model may look at it (a missing reading never is).
    """
    rows, shape = imputer.to_rows(windows)
    if cond_mask.shape != windows.shape:
        raise DataError(f"cond_mask: expected the windows' shape {windows.shape}, found {cond_mask.shape}")
    cond, _ = imputer.to_rows(cond_mask.astype(np.float32))
    mean, variance = torch.empty_like(rows), torch.empty_like(rows)
    with torch.inference_mode():
        for start in range(0, len(rows), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            visible = (cond[part] > 0) & ~rows[part].isnan()
            values = rows[part].nan_to_num()
            passed_mean, passed_variance = _pass(imputer.model, values, visible)
            mean[part] = torch.where(visible, values, passed_mean)
            variance[part] = torch.where(visible, 0.0, passed_variance)
    return Imputation(
        imputer.from_rows(mean, shape), imputer.from_rows(variance.sqrt() * float(imputer.card["temperature"]), shape)
    )


def sample(
    imputer: DenoiserImputer, windows: Float32, cond_mask: Bool, *, samples: int, seed: int, sampler_steps: int = 12
) -> Float32:
    """Joint draws of the hidden points, float32 [samples, batch, window, channel]; visible points as they are.

    Draws repeat for a given seed and batch.
    """
    rows, shape = imputer.to_rows(windows)
    cond, _ = imputer.to_rows(cond_mask.astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty((samples, *rows.shape))
    with torch.inference_mode():
        for start in range(0, len(rows), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            values = rows[part].nan_to_num()
            visible = (cond[part] > 0) & ~rows[part].isnan()
            given = condition(values, visible)
            for draw in range(samples):
                hidden = sample_targets(imputer.model, given, sampler_steps, generator) * given.scale + given.centre
                drawn[draw, part] = torch.where(visible, values, hidden)
    return np.stack([imputer.from_rows(draw, shape) for draw in drawn])


def _pass(model: Denoiser, values: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Conditional mean and variance in the units of the input, [n, window, K]."""
    config = model.config
    given = condition(values, visible)
    mean, variance = model(torch.zeros_like(values), torch.tensor([config.sigma_max]), given)
    return mean * given.scale + given.centre, variance * given.scale**2
