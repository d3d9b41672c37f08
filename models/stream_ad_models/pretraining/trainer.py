"""Training of a denoiser: loss, schedule, averaged weights. Shared by the pretraining and the group models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad_models.imputer.conditioning import condition
from stream_ad_models.imputer.denoiser import Denoiser, preconditioning

__all__ = ["Batch", "FitSettings", "Progress", "diffusion_loss", "draw_sigma", "fit", "kept_windows", "learning_rate"]

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Progress = Callable[[int, float], None]  # (steps done, running loss)

_TRUTH_CLIP = 8.0  # standardised units; so that one jump in a quiet window does not dominate the gradient
_RATIO_CLIP = 100.0
_LOG_V_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Batch:
    """values: float32 [batch, window, channel], finite. cond_mask, target_mask: bool, the same shape, disjoint."""

    values: Float32
    cond_mask: Bool
    target_mask: Bool


@dataclass(frozen=True, slots=True)
class FitSettings:
    """steps: optimiser steps. at_sigma_max: share of a batch at sigma_max without noise, the one-pass use of the
    imputer; the rest draws ln sigma ~ N(sigma_mean, sigma_std^2) (EDM section 5). trim: share of
    every batch that is left out of its step, for histories that hold anomalies (`kept_windows`)."""

    steps: int
    rate: float = 2e-3
    warmup_steps: int = 100
    ema_decay: float = 0.999
    at_sigma_max: float = 0.5
    sigma_mean: float = -0.2
    sigma_std: float = 1.4
    trim: float = 0.0


def learning_rate(step: int, settings: FitSettings) -> float:
    """Linear warm-up, then a cosine down to 1% of the peak."""
    if step < settings.warmup_steps:
        return settings.rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def draw_sigma(generator: torch.Generator, batch: int, model: Denoiser, settings: FitSettings) -> tuple[Tensor, Tensor]:
    """sigma [batch] and whether the window is noised at all, 1.0 or 0.0 [batch]."""
    config = model.config
    sigma = (settings.sigma_mean + settings.sigma_std * torch.randn(batch, generator=generator)).exp()
    sigma = sigma.clamp(config.sigma_min, config.sigma_max)
    pure = torch.arange(batch) < round(settings.at_sigma_max * batch)
    # a fifth of the sigma_max share is noised: the sampler's first step starts there
    noised = ~pure | (torch.arange(batch) % 5 == 0)
    return torch.where(pure, config.sigma_max, sigma), noised.to(torch.float32)


def diffusion_loss(model: Denoiser, batch: Batch, generator: torch.Generator, settings: FitSettings) -> Tensor:
    """EDM eq. 8 with unit effective weight: mean |F - F*|^2 over the targets, plus a Gaussian loss for log v.

    F* = (y - c_skip (y + n)) / c_out is the network's unit-variance target; log v learns the squared error, which is
    detached so that it cannot trade accuracy for confidence.
    """
    values, mask = torch.from_numpy(batch.values), torch.from_numpy(batch.cond_mask)
    target = torch.from_numpy(batch.target_mask).to(values.dtype)
    given = condition(values, mask)
    truth = ((values - given.centre) / given.scale).clamp(-_TRUTH_CLIP, _TRUTH_CLIP)
    sigma, noised = draw_sigma(generator, len(values), model, settings)
    factor = preconditioning(sigma.view(-1, 1, 1), model.config.sigma_data)
    noise = torch.randn(values.shape, generator=generator) * sigma.view(-1, 1, 1)
    noisy = (truth + noise) * (1 - given.mask) * noised.view(-1, 1, 1)
    raw, log_v = model.network(factor.c_in * noisy, factor.c_noise.view(-1), given)
    # without noise the input is empty and the target is the mean itself
    wanted = (truth - factor.c_skip * noisy) / factor.c_out
    error = (raw - wanted) ** 2
    ratio = (error.detach() * (-log_v).exp()).clamp(max=_RATIO_CLIP)
    loss = error + _LOG_V_WEIGHT * 0.5 * (log_v + ratio)
    if settings.trim:
        target = target * kept_windows(ratio, target, settings.trim)
    return (loss * target).sum() / target.sum().clamp(min=1)


def kept_windows(ratio: Tensor, target: Tensor, trim: float) -> Tensor:
    """0.0 for the share `trim` of the windows with the highest mean of `ratio`, else 1.0: [batch, 1, 1].

    TabADM (Zamberg et al. 2023) rejects the samples of highest loss in each batch, as anomalies are learned last. Its
    samples differ by noise level alone; here masks make some windows harder than others, so the criterion is not the
    loss but the squared error over the predicted variance. ratio, target: [batch, window, channel].
    """
    if not 0 <= trim < 1:
        raise ValueError(f"trim: expected a share from 0 to below 1, found {trim}")
    size = (ratio * target).sum(dim=(1, 2)) / target.sum(dim=(1, 2)).clamp(min=1)
    kept = torch.zeros_like(size)
    kept[size.argsort()[: len(size) - round(trim * len(size))]] = 1.0
    return kept.view(-1, 1, 1)


def fit(
    model: Denoiser,
    batches: Iterator[Batch],
    settings: FitSettings,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> float:
    """Train in place, leave the averaged weights in the model, return the running loss. AdamW, clipped gradients."""
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.AdamW(parameters, lr=settings.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    running = math.nan
    model.train()
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        loss = diffusion_loss(model, next(batches), generator, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        # a short run must not average over its random start
        decay = min(settings.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)
        value = float(loss.detach())
        running = value if math.isnan(running) else 0.99 * running + 0.01 * value
        if progress is not None:
            progress(step + 1, running)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    model.eval()
    return running
