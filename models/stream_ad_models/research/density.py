"""The log-density of a window by the probability-flow ODE.

Song et al.: Score-Based Generative Modeling through SDEs (ICLR 2021), eq. 39: log p_0(x(0)) = log p_T(x(T)) + the
integral of div f along dx = f dt, with the divergence by Skilling and Hutchinson's estimate v^T J v (eq. 40). In EDM's
form dx / dsigma = (x - D(x; sigma)) / sigma, so in u = ln sigma: dx / du = x - D and div = d - tr dD/dx.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from stream_ad_models.research.sampler import Denoise

__all__ = ["log_density", "random_signs"]


def random_signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Rademacher vectors: +1 or -1 with even chance, float32."""
    return torch.randint(0, 2, shape, generator=generator).to(torch.float32).mul(2).sub(1)


def log_density(
    denoise: Denoise,
    clean: Tensor,
    hidden: Tensor,
    levels: Tensor,
    signs: Tensor,
    *,
    sigma_data: float = 1.0,
) -> Tensor:
    """Each point's part of log p(hidden points | what the denoiser knows): [batch, window, channel], 0 where visible.

    The sum over a window is its log-density at noise level levels[0], in nats and the units of `clean`; a part alone
    is no marginal density. hidden: 1.0 where the denoiser predicts, else 0.0. levels: rising, float [n]; Heun's steps
    in ln sigma, 2 (n - 1) passes forward and back. signs: the vectors v, the same all the way: +-1 at random
    (`random_signs`), [probe, batch or 1, window, channel]. Not under inference_mode: the trace needs gradients.
    """
    vectors = [sign.to(clean.dtype) * hidden for sign in signs]
    moving = clean * hidden
    gained = torch.zeros_like(clean)
    for now, following in pairwise(levels):
        width = torch.log(following / now)
        slope, divergence = _flow(denoise, moving, now, hidden=hidden, vectors=vectors)
        ahead = _flow(denoise, moving + width * slope, following, hidden=hidden, vectors=vectors)
        moving = moving + width * (slope + ahead[0]) / 2
        gained = gained + width * (divergence + ahead[1]) / 2
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
