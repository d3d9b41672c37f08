"""Reconstruction from a partly noised input, guided towards the input itself, compared in signal and in feature space.

Mousakhan, Brox, Tayyub: Anomaly Detection with Conditioned Denoising Diffusion Models (DDAD, 2023), algorithm 1:
y_t = the input at x_t's noise, eps_hat = eps - w sqrt(1 - alpha_t) (y_t - x_t), then DDIM's step with eps_hat. With
alpha_t = 1 / (1 + sigma^2) and in EDM's units this is DDIM with the clean estimate
D + w sigma^2 / (1 + sigma^2) (y - D). Left out: their noise between steps (eta = 0 here) and the fine-tuned image
network; the features are the denoiser's own.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor
from torch.nn import functional

from stream_ad_models.imputer.conditioning import Condition
from stream_ad_models.imputer.denoiser import Denoiser
from stream_ad_models.research.sampler import Denoise

__all__ = ["feature_distance", "features", "guided_reconstruction"]


def guided_reconstruction(denoise: Denoise, clean: Tensor, levels: Tensor, weight: float, noise: Tensor) -> Tensor:
    """What the window would look like were it normal, [batch, window, channel]; one pass a level.

    clean: the input. levels: falling, the first is how far the input is noised, the last 0. weight: 0 = the plain
    reverse path; larger keeps the result nearer the input. noise: standard normal, broadcast against clean.
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
