"""The score's size as an anomaly score: how hard the denoiser pulls a window away from itself.

"Score-based" detection of the survey of diffusion models for anomaly detection (arXiv 2506.09368): the norm of
s(x; sigma) = grad log p(x; sigma), which by EDM eq. 3 is (D(x; sigma) - x) / sigma^2. The window goes in as it is,
without added noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stream_ad_models.research.sampler import Denoise

__all__ = ["score", "score_squares"]


def score(denoise: Denoise, clean: Tensor, hidden: Tensor, sigma: Tensor) -> Tensor:
    """s(x; sigma), [batch, window, channel], 0 where visible. sigma: scalar; one network pass."""
    return (denoise(clean, sigma.view(1)) - clean) / sigma.square() * hidden


def score_squares(denoise: Denoise, clean: Tensor, hidden: Tensor, levels: Tensor) -> Tensor:
    """Mean over the levels of (sigma s)^2 by point, so that every level weighs alike: [batch, window, channel].

    Of one level, its sum over a window is the squared norm of the score times sigma^2. A pass a level.
    """
    total = torch.zeros_like(clean)
    for sigma in levels:
        total += (sigma * score(denoise, clean, hidden, sigma)).square()
    return total / len(levels)
