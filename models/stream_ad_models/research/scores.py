"""Anomaly scores of a denoiser, as the survey of diffusion models for anomaly detection (arXiv 2506.09368) groups them.

Density: `log_density`, `denoising_losses`. Score: `score_squares`. Reconstruction: `guided_reconstruction`, compared in
signal or by `feature_distance`. clean: the window, standardised as the denoiser expects it; hidden: 1.0 where the
denoiser predicts, else 0.0; noise: standard normal, broadcast against clean, the same for all windows so that they are
comparable. Tensors are [batch, window, channel].
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from stream_ad_models.imputer.conditioning import Condition
from stream_ad_models.imputer.denoiser import Denoiser
from stream_ad_models.research.sampler import Denoise

__all__ = [
    "denoising_losses", "feature_distance", "features", "guided_reconstruction", "log_density", "log_levels",
    "loss_sum", "random_signs", "score", "score_squares",
]  # fmt: skip


def log_levels(count: int, low: float, high: float) -> Tensor:
    """Noise levels evenly spaced in ln sigma from low to high: float32 [count]."""
    if count < 2 or not 0 < low < high:
        raise ValueError(f"levels: expected 2 or more between 0 < low < high, found {count} from {low} to {high}")
    return torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64).exp().to(torch.float32)


# ---- density


def random_signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Rademacher vectors: +1 or -1 with equal probability, float32."""
    return torch.randint(0, 2, shape, generator=generator).to(torch.float32).mul(2).sub(1)


def log_density(
    denoise: Denoise, clean: Tensor, hidden: Tensor, levels: Tensor, signs: Tensor, *, sigma_data: float = 1.0
) -> Tensor:
    """Each point's part of log p(hidden points | condition), 0 where visible, by the probability-flow ODE.

    Song et al.: Score-Based Generative Modeling through SDEs (ICLR 2021), eq. 39: log p_0(x(0)) = log p_T(x(T)) + the
    integral of div f along dx = f dt, with Skilling and Hutchinson's estimate v^T J v of the divergence (eq. 40). In
    EDM's form dx / dsigma = (x - D(x; sigma)) / sigma, so in u = ln sigma: dx / du = x - D and div = d - tr dD/dx.

    The sum over a window is its log-density at noise level levels[0], in nats and the units of `clean`; a part alone
    is no marginal density. levels: rising, float [n]; Heun's steps in ln sigma, 2 (n - 1) passes forward and back.
    signs: the vectors v, +-1 at random (`random_signs`), [probe, batch or 1, window, channel], the same in all steps.
    Not under inference_mode: the trace needs gradients.
    """
    vectors = [sign.to(clean.dtype) * hidden for sign in signs]
    moving = clean * hidden
    gained = torch.zeros_like(clean)
    for now, following in pairwise(levels):
        width = torch.log(following / now)
        slope, divergence = _flow(denoise, moving, now, hidden=hidden, vectors=vectors)
        slope_after, after = _flow(denoise, moving + width * slope, following, hidden=hidden, vectors=vectors)
        moving = moving + width * (slope + slope_after) / 2
        gained = gained + width * (divergence + after) / 2
    variance = float(levels[-1]) ** 2 + sigma_data**2
    prior = -0.5 * (moving.square() / variance + math.log(2 * math.pi * variance))
    return (prior + gained) * hidden


def _flow(
    denoise: Denoise, moving: Tensor, sigma: Tensor, *, hidden: Tensor, vectors: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """dx / du and, by point, the estimate of its divergence."""
    with torch.enable_grad():
        start = moving.detach().requires_grad_(True)
        clean = denoise(start, sigma.view(1))
        trace = torch.zeros_like(moving)
        for number, vector in enumerate(vectors, start=1):
            (pulled,) = torch.autograd.grad((clean * vector).sum(), start, retain_graph=number < len(vectors))
            trace += vector * pulled / len(vectors)
    return (moving - clean.detach()) * hidden, (1 - trace) * hidden


def denoising_losses(denoise: Denoise, clean: Tensor, hidden: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
    """Squared error of the predicted noise, by level and point: [level, batch, window, channel], 0 where visible; one
    pass a level.

    Zamberg, Salhov, Lindenbaum, Averbuch: TabADM (2023) scores by its sum over noise levels. In EDM terms the error is
    (D(y + sigma eps; sigma) - y) / sigma; summed over levels evenly spaced in ln sigma it is the bound of variational
    diffusion (Kingma et al. 2021, with snr = 1 / sigma^2), and for the exact D -log p(y) up to a constant (Kong et al.:
    Information-theoretic diffusion, 2023), which the tests use.
    """
    losses = []
    for sigma in levels:
        error = denoise(clean + sigma * noise, sigma.view(1)) - clean
        losses.append((error / sigma).square() * hidden)
    return torch.stack(losses)


def loss_sum(losses: Tensor, levels: Tensor) -> Tensor:
    """The integral of the losses over ln sigma by the trapezoid rule, by point: [batch, window, channel]."""
    return torch.trapezoid(losses, levels.to(losses.dtype).log(), dim=0)


# ---- score


def score(denoise: Denoise, clean: Tensor, hidden: Tensor, sigma: Tensor) -> Tensor:
    """s(x; sigma) = grad log p(x; sigma) = (D(x; sigma) - x) / sigma^2 (EDM eq. 3), 0 where visible; no noise is added.
    sigma: scalar; one pass."""
    return (denoise(clean, sigma.view(1)) - clean) / sigma.square() * hidden


def score_squares(denoise: Denoise, clean: Tensor, hidden: Tensor, levels: Tensor) -> Tensor:
    """Mean over the levels of (sigma s)^2 by point, which gives all levels equal weight; one pass a level."""
    total = torch.zeros_like(clean)
    for sigma in levels:
        total += (sigma * score(denoise, clean, hidden, sigma)).square()
    return total / len(levels)


# ---- reconstruction


def guided_reconstruction(denoise: Denoise, clean: Tensor, levels: Tensor, weight: float, noise: Tensor) -> Tensor:
    """The nearest normal window: partly noised, then denoised with guidance towards the input; one pass a level.

    Mousakhan, Brox, Tayyub: Anomaly Detection with Conditioned Denoising Diffusion Models (DDAD, 2023), algorithm 1:
    y_t = the input at x_t's noise, eps_hat = eps - w sqrt(1 - alpha_t) (y_t - x_t), then DDIM's step with eps_hat. With
    alpha_t = 1 / (1 + sigma^2) and in EDM's units this is DDIM with the clean estimate
    D + w sigma^2 / (1 + sigma^2) (y - D). Left out: their noise between steps (eta = 0 here) and the fine-tuned image
    network; the features are the denoiser's.

    levels: falling, the first is how far the input is noised, the last 0. weight: 0 = without guidance; a larger one
    keeps the result nearer the input.
    """
    moving = clean + levels[0] * noise
    for now, following in pairwise(levels):
        free = denoise(moving, now.view(1))
        guided = free + weight * now.square() / (1 + now.square()) * (clean - free)
        moving = guided + following / now * (moving - guided)
    return moving


def features(model: Denoiser, window: Tensor, sigma: Tensor, given: Condition) -> Tensor:
    """The denoiser's last hidden layer for a window seen at noise level sigma [1]: [batch, token, width]."""
    caught: list[Tensor] = []
    handle = model.read.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        model(window, sigma, given)
    finally:
        handle.remove()
    return caught[0]


def feature_distance(first: Tensor, second: Tensor, patch_steps: int) -> Tensor:
    """1 - cosine of two windows' features [batch, token, width], at every step: [batch, window, 1]."""
    apart = 1 - functional.cosine_similarity(first, second, dim=-1)
    return apart.repeat_interleave(patch_steps, dim=1)[..., None]
