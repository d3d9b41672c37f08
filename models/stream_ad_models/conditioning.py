"""What the denoiser may look at: visible points, standardised, with two guesses of the hidden ones beside them.

A guess never replaces a reading and never leaves this file as one: hidden points stay 0 in `values`, the mask says
so, and the guesses are inputs of their own. Tensors are float32 [batch, window, channel].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Condition", "condition", "echo", "interpolate"]

# The condition is standardised with this weight of prior variance 1: with nothing to see the prior alone remains, and
# a constant window is divided by about .06, not by 0.
_PRIOR_POINTS = 1 / 4
# `echo`: fewest visible pairs a lag is judged by; mismatch (in window variances) over which its weight falls by e;
# weight of the interpolated guide beside that of the best lag, 1
_FEWEST_PAIRS = 8
_SOFTNESS = 0.05
_FALLBACK = 1e-3


@dataclass(frozen=True, slots=True)
class Condition:
    """What the denoiser may look at, standardised per window and channel by its own present points.

    values: [batch, window, channel] standardised, 0 where hidden. mask: 1.0 where present. guide: values drawn on
    linearly through the hidden points. echo: what the window's own repetitions say of every point (see `echo`).
    centre, scale: [batch, 1, channel]; value = standardised * scale + centre.
    """

    values: Tensor
    mask: Tensor
    guide: Tensor
    echo: Tensor
    centre: Tensor
    scale: Tensor


def interpolate(values: Tensor, mask: Tensor) -> Tensor:
    """Linear interpolation through the present points, held flat beyond the first and the last; 0 if there are none.

    values: [batch, window, channel]; mask: the same, bool.
    """
    steps = values.shape[1]
    index = torch.arange(steps).view(1, steps, 1)
    before = torch.where(mask, index, -1).cummax(dim=1).values
    after = torch.where(mask, index, steps).flip(1).cummin(dim=1).values.flip(1)
    low = values.gather(1, before.clamp(min=0))
    high = values.gather(1, after.clamp(max=steps - 1))
    low = torch.where(before < 0, high, low)
    high = torch.where(after >= steps, low, high)
    part = (index - before) / (after - before).clamp(min=1)
    some = mask.any(dim=1, keepdim=True)
    return torch.where(some, low + part * (high - low), 0.0)


def echo(seen: Tensor, mask: Tensor, guide: Tensor) -> Tensor:
    """Every point as the mean of the visible points a lag away, lags weighted by how well the window repeats at them.

    The mismatch of a lag is the mean squared difference of the visible pairs that far apart (the masked variogram),
    its weight exp(-(excess over the best lag) / (_SOFTNESS + best / 4)), which follows a period through a gap that
    interpolation cannot cross. A point no trusted lag reaches falls back on the guide. Lags, pairs and the weighted
    mean are all correlations, done by FFT over twice the window (no wrap-around), in float64: where no lag reaches, the
    rounding of a float32 FFT would outweigh the fallback and differ from batch to batch.

    seen: standardised values, 0 where hidden; mask: 1.0 where visible; all [batch, window, channel].
    """
    steps = seen.shape[1]
    values, present = seen.transpose(1, 2).double(), mask.transpose(1, 2).double()
    of_mask, of_values = torch.fft.rfft(present, 2 * steps), torch.fft.rfft(values, 2 * steps)
    of_squares = torch.fft.rfft(values * values, 2 * steps)
    pairs = torch.fft.irfft(of_mask.abs().square(), 2 * steps)[..., 1:steps]
    # sum over pairs of (x_t - x_(t+lag))^2 = squares of both ends - 2 products, for both directions at once
    products = (of_squares.conj() * of_mask).real - of_values.abs().square()
    mismatch = torch.fft.irfft(2 * products, 2 * steps)[..., 1:steps] / pairs.clamp(min=1)
    known = pairs > _FEWEST_PAIRS - 0.5  # counts, but through an FFT
    mismatch = torch.where(known, mismatch.clamp(min=0) + 0.5 / pairs.clamp(min=1), torch.inf)
    best = mismatch.amin(dim=-1, keepdim=True).clamp(max=1e3)
    weight = torch.exp(-(mismatch - best) / (_SOFTNESS + best / 4))
    kernel = torch.cat([torch.zeros_like(weight[..., :1]), weight], dim=-1)
    kernel = torch.cat([kernel, torch.zeros_like(weight[..., :1]), weight.flip(-1)], dim=-1)
    of_kernel = torch.fft.rfft(kernel)
    total = torch.fft.irfft(of_kernel * of_values, 2 * steps)[..., :steps].transpose(1, 2)
    reach = torch.fft.irfft(of_kernel * of_mask, 2 * steps)[..., :steps].transpose(1, 2).clamp(min=0)
    return torch.div(total + _FALLBACK * guide, reach + _FALLBACK).to(seen.dtype)


def condition(values: Tensor, cond_mask: Tensor) -> Condition:
    """Standardise a window by its visible points alone, so that a target never reaches its own imputation.

    values: [batch, window, channel] (anything finite where hidden); cond_mask: bool, the same shape.
    """
    mask = cond_mask.to(values.dtype)
    count = mask.sum(dim=1, keepdim=True)
    # the prior shrinks the scale and not the centre: a window moved by a constant gives the same standardised window
    centre = (values * mask).sum(dim=1, keepdim=True) / count.clamp(min=1)
    deviation = (values - centre) * mask
    scale = (((deviation**2).sum(dim=1, keepdim=True) + _PRIOR_POINTS) / (count + _PRIOR_POINTS)).sqrt()
    seen = deviation / scale
    guide = interpolate(seen, cond_mask)
    return Condition(seen, mask, guide, echo(seen, mask, guide), centre, scale)
