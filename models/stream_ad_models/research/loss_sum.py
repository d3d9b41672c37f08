"""The sum of denoising losses over noise levels: a bound on -log p, and TabADM's anomaly score.

Zamberg, Salhov, Lindenbaum, Averbuch: TabADM (2023), inference: the noise prediction's squared error, summed over the
noise levels. In EDM terms the error is (D(y + sigma eps; sigma) - y) / sigma; over levels evenly spaced in
ln sigma the sum is the bound of variational diffusion (Kingma et al. 2021, with snr = 1 / sigma^2), and for the exact D
it is -log p(y) up to a constant (Kong et al.: Information-theoretic diffusion, 2023), which the tests use.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stream_ad_models.research.sampler import Denoise

__all__ = ["denoising_losses", "log_levels", "loss_sum"]


def log_levels(count: int, low: float, high: float) -> Tensor:
    """Noise levels evenly spaced in ln sigma from low to high: float32 [count]."""
    if count < 2 or not 0 < low < high:
        raise ValueError(f"levels: expected 2 or more between 0 < low < high, found {count} from {low} to {high}")
    return torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64).exp().to(torch.float32)


def denoising_losses(denoise: Denoise, clean: Tensor, hidden: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
    """Squared error of the predicted noise, by level and point: [level, batch, window, channel], 0 where visible.

    clean: the window, standardised as the denoiser wants it. hidden: 1.0 where the denoiser predicts, else 0.0. noise:
    standard normal, broadcast against clean: one draw for all windows makes them comparable. A pass a level.
    """
    losses = []
    for sigma in levels:
        error = denoise(clean + sigma * noise, sigma.view(1)) - clean
        losses.append((error / sigma).square() * hidden)
    return torch.stack(losses)


def loss_sum(losses: Tensor, levels: Tensor) -> Tensor:
    """The integral of the losses over ln sigma by the trapezoid rule, by point: [batch, window, channel]."""
    return torch.trapezoid(losses, levels.to(losses.dtype).log(), dim=0)
