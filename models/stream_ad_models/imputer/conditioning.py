"""The denoiser's condition: visible points, standardised, and two guides for the hidden ones.

A guide never replaces a reading: hidden points stay 0 in `values` and in the mask, and the guides are separate inputs.
Tensors are float32 [batch, window, channel].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Condition", "autocorrelation", "condition", "condition_shared_mask", "interpolate"]

# Weight, in points, of a prior variance of 1 in the standardisation: a window without visible points gets the prior, a
# constant one is divided by about .06, not by 0.
_PRIOR_POINTS = 1 / 4
# `autocorrelation`: fewest visible pairs of a lag; mismatch (in window variances) by which its weight falls by e;
# weight of the interpolated guide, that of the best lag being 1.
_FEWEST_PAIRS = 8
_SOFTNESS = 0.05
_FALLBACK = 1e-3
_ROWS_AT_ONCE = 256  # of one channel: intermediate results stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Condition:
    """Standardised per window and channel by the visible points.

    values: [batch, window, channel] standardised, 0 where hidden. mask: 1.0 where visible. guide: linear interpolation
    through the hidden points. autocorrelation: every point predicted by the window's repetitions (the function below).
    centre, scale: [batch, 1, channel]; value = standardised * scale + centre.
    """

    values: Tensor
    mask: Tensor
    guide: Tensor
    autocorrelation: Tensor
    centre: Tensor
    scale: Tensor


def interpolate(values: Tensor, mask: Tensor) -> Tensor:
    """Linear interpolation through the present points, constant beyond the first and the last; 0 without any.

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


def autocorrelation(seen: Tensor, mask: Tensor, guide: Tensor) -> Tensor:
    """Every point as the mean of the visible points a lag away, lags weighted by how well the window repeats at them.

    A lag's mismatch is the mean squared difference of the visible pairs that far apart (the masked variogram), its
    weight exp(-(excess over the best lag) / (_SOFTNESS + best / 4)); so a period continues through a gap that
    interpolation cannot cross. A point that no lag reaches gets the guide. Lags, pairs and the weighted mean are
    correlations, by FFT over twice the window (no wrap-around), in float64: where no lag reaches, the rounding of a
    float32 FFT would outweigh the fallback and differ from batch to batch.

    seen: standardised values, 0 where hidden; mask: 1.0 where visible; all [batch, window, channel].
    """
    steps = seen.shape[1]
    values, present = seen.transpose(1, 2).double(), mask.transpose(1, 2).double()
    of_mask, of_values = torch.fft.rfft(present, 2 * steps), torch.fft.rfft(values, 2 * steps)
    of_squares = torch.fft.rfft(values * values, 2 * steps)
    pairs = torch.fft.irfft(_power(of_mask), 2 * steps)[..., 1:steps]
    # sum over pairs of (x_t - x_(t+lag))^2 = squares of both ends - 2 products, for both directions at once
    products = (of_squares.conj() * of_mask).real - _power(of_values)
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


def _power(spectrum: Tensor) -> Tensor:
    """|z|^2, without the square root of abs()."""
    return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)


def condition(values: Tensor, cond_mask: Tensor) -> Condition:
    """Standardises a window by its visible points alone, so that a target never leaks into its imputation.

    values: [batch, window, channel] (anything finite where hidden); cond_mask: bool, the same shape.
    """
    mask = cond_mask.to(values.dtype)
    count = mask.sum(dim=1, keepdim=True)
    # the prior shrinks the scale, not the centre: a window shifted by a constant gives the same standardised window
    centre = (values * mask).sum(dim=1, keepdim=True) / count.clamp(min=1)
    deviation = (values - centre) * mask
    scale = (((deviation**2).sum(dim=1, keepdim=True) + _PRIOR_POINTS) / (count + _PRIOR_POINTS)).sqrt()
    seen = deviation / scale
    guide = interpolate(seen, cond_mask)
    return Condition(seen, mask, guide, autocorrelation(seen, mask, guide), centre, scale)


def condition_shared_mask(values: Tensor, visible: Tensor) -> Condition:
    """`condition` for windows without missing readings that share one mask: what depends on it is computed once.

    values: [batch, window, channel], finite; visible: bool [window]. The same numbers as `condition`, to rounding;
    `mask` comes as [1, window, 1].
    """
    batch, steps, channels = values.shape
    fixed = _fixed(visible.numpy().tobytes())
    rows = values.transpose(1, 2).reshape(-1, steps)
    parts = [_condition_rows(rows[at : at + _ROWS_AT_ONCE], fixed) for at in range(0, len(rows), _ROWS_AT_ONCE)]
    whole = [torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True)]
    seen, guide, autocorrelated, centre, scale = (part.view(batch, channels, -1).transpose(1, 2) for part in whole)
    return Condition(seen, fixed.mask[None, :, None], guide, autocorrelated, centre, scale)


def _condition_rows(rows: Tensor, fixed: _Fixed) -> tuple[Tensor, ...]:
    """values, guide, autocorrelation, centre and scale of rows [n, window] of one channel each."""
    steps = rows.shape[1]
    centre = (rows @ fixed.share)[:, None]
    seen = (rows - centre) * fixed.mask
    scale = ((seen.square().sum(dim=1, keepdim=True) + _PRIOR_POINTS) / (fixed.count + _PRIOR_POINTS)).sqrt()
    seen /= scale
    guide = seen @ fixed.guide
    of_values = torch.fft.rfft(seen.double(), 2 * steps)
    products = torch.fft.irfft(_power(of_values), 2 * steps)[:, 1:steps].float()
    mismatch = (seen.square() @ fixed.ends).sub_(products, alpha=2).mul_(fixed.per_pair).clamp_(min=0)
    mismatch += fixed.doubt
    best = mismatch.amin(dim=1, keepdim=True).clamp(max=1e3)
    weight = ((best - mismatch) / (_SOFTNESS + best / 4)).exp_()
    kernel = torch.zeros(len(rows), 2 * steps, dtype=torch.float64)
    kernel[:, 1:steps] = weight
    kernel[:, steps + 1 :] = weight.flip(1)
    total = torch.fft.irfft(torch.fft.rfft(kernel).mul_(of_values), 2 * steps)[:, :steps].float()
    return seen, guide, total.add_(guide, alpha=_FALLBACK).div_((weight @ fixed.reach).add_(_FALLBACK)), centre, scale


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What a mask alone decides, float32; lags are 1 to window - 1.

    count: of visible steps; mask, share (mask / count): [window]; guide: [window, window], seen @ guide interpolates;
    ends: [window, lag], how many visible steps lie a lag from a visible one; reach: [lag, window], how many a lag from
    any; per_pair: 1 / pairs of a lag; doubt: .5 / pairs, infinite for a lag of too few.
    """

    count: float
    mask: Tensor
    share: Tensor
    guide: Tensor
    ends: Tensor
    reach: Tensor
    per_pair: Tensor
    doubt: Tensor


@lru_cache(maxsize=64)
def _fixed(visible: bytes) -> _Fixed:
    shown = torch.frombuffer(bytearray(visible), dtype=torch.bool)
    steps, mask = len(shown), shown.float()
    unit = torch.eye(steps)[..., None]  # window i holds 1 at step i alone
    guide = interpolate(unit * mask[None, :, None], shown[None, :, None].expand_as(unit))[..., 0]
    reach = torch.zeros(steps - 1, steps)
    for lag in range(1, steps):
        reach[lag - 1, lag:] += mask[:-lag]
        reach[lag - 1, :-lag] += mask[lag:]
    pairs = reach @ mask / 2
    doubt = torch.where(pairs >= _FEWEST_PAIRS, 0.5 / pairs.clamp(min=1), torch.inf)
    count = float(mask.sum())
    share = mask / max(count, 1.0)
    return _Fixed(count, mask, share, guide, (reach * mask).T.contiguous(), reach, 1 / pairs.clamp(min=1), doubt)
