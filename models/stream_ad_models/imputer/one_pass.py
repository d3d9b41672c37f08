"""The denoiser as a stream runs it: one pass from sigma_max without noise, for some tokens alone.

At one fixed noise level the modulation of every layer norm is constant, so it is folded into the linear maps around it,
and the noisy input, 0 everywhere, drops out. The last block is computed for the wanted tokens; the others are only its
keys and values. Equal to `Denoiser.forward` up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stream_ad_models.imputer.conditioning import Condition
from stream_ad_models.imputer.denoiser import Block, Denoiser, log_variance, preconditioning

__all__ = ["FoldedDenoiser"]

_INPUTS = 5  # of the denoiser: values, mask, guide, autocorrelation, noisy targets
_SEEN, _MASK = [0, 2, 3], 1  # the noisy targets are 0; a shared mask adds the same to all windows


class FoldedDenoiser:
    """A copy of a trained denoiser; later training of that one does not change it.

    Inside, a token's values are ordered [channel, input, step], since a channel's steps are adjacent in memory.
    """

    def __init__(self, model: Denoiser) -> None:
        config = self.config = model.config
        width, channels = config.patch_steps, config.channels
        with torch.no_grad():
            factor = preconditioning(torch.tensor([config.sigma_max]), config.sigma_data)
            level = model.level_of(factor.c_noise).view(-1)
            embed = model.embed.weight.view(-1, _INPUTS, width, channels)
            self._embed = embed[:, _SEEN].permute(0, 3, 1, 2).flatten(1)
            self._embed_mask = embed[:, _MASK].transpose(1, 2).contiguous()
            self._start = (model.position + model.embed.bias)[0]
            self._blocks = [_FoldedBlock(block, level) for block in model.blocks if isinstance(block, Block)]
            shift, scale = model.last(level).chunk(2)
            weight, bias = _behind_norm(model.read.weight, model.read.bias, shift, scale)
            order = torch.arange(len(bias)).view(2, width, channels).permute(2, 0, 1).flatten()
            self._read = weight[order], bias[order]
            along = model.straight.weight.view(-1, _INPUTS, width)
            self._along, self._along_mask = along[:, _SEEN].flatten(1), along[:, _MASK].contiguous()
            across = None if model.across is None else model.across.weight.view(-1, _INPUTS, channels)
            self._across = None if across is None else (across[:, _SEEN].flatten(1), across[:, _MASK].contiguous())
            self._c_out = float(factor.c_out)

    def __call__(self, given: Condition, steps: slice) -> tuple[Tensor, Tensor]:
        """Mean and variance, standardised, [batch, step, channel], of the steps that `covered` returns. given: [batch,
        window, channel]."""
        here, width = self.covered(steps), self.config.patch_steps
        wanted = slice(here.start // width, here.stop // width)
        rows = [part.transpose(1, 2) for part in (given.values, given.guide, given.autocorrelation)]
        tokens = torch.stack([self._tokens(row) for row in rows], dim=3)  # [token, batch, channel, input, step]
        mask = self._tokens(given.mask.transpose(1, 2))  # [token, batch, channel, step], or 1 of the last two for all
        hidden = functional.linear(tokens.flatten(2), self._embed).add_(self._start[:, None])
        hidden = self._with_mask(hidden, mask).transpose(0, 1)
        for block in self._blocks[:-1]:
            hidden = block(hidden, slice(0, self.config.tokens))
        hidden = self._blocks[-1](hidden, wanted) if self._blocks else hidden[:, wanted]
        out = functional.linear(_norm(hidden), *self._read).transpose(0, 1)
        along = functional.linear(tokens[wanted].flatten(3), self._along).add_(
            functional.linear(mask[wanted], self._along_mask)
        )
        along += out.view(along.shape)
        out = along.view(*along.shape[:3], 2, width).permute(1, 3, 2, 0, 4)  # [batch, 2, channel, token, step]
        if self._across is not None:
            out = self._by_step(rows, given.mask, here).view(out.shape).add_(out)
        mean, log_v = out.reshape(*out.shape[:3], -1).transpose(2, 3).unbind(1)
        return mean * self._c_out, log_variance(log_v).exp() * self._c_out**2

    def _tokens(self, row: Tensor) -> Tensor:
        """[batch, channel, window] -> [token, batch, channel, step]"""
        return row.reshape(*row.shape[:2], self.config.tokens, self.config.patch_steps).permute(2, 0, 1, 3)

    def _with_mask(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden: [token, batch, width], with the mask's contribution added in place."""
        if mask.shape[2] == 1:  # all channels share one
            return hidden.add_(functional.linear(mask[:, :, 0], self._embed_mask.sum(dim=1)))
        return hidden.add_(functional.linear(mask.flatten(2), self._embed_mask.flatten(1)))

    def _by_step(self, rows: Sequence[Tensor], mask: Tensor, here: slice) -> Tensor:
        """The skip across the channels of each step, [batch, 2 * channel, step]."""
        assert self._across is not None
        seen, of_mask = self._across
        inputs = torch.cat([row[:, :, here] for row in rows], dim=1)
        shown = mask[:, here].transpose(1, 2)
        added = of_mask.sum(dim=1, keepdim=True) * shown if shown.shape[1] == 1 else of_mask @ shown
        return (seen @ inputs).add_(added)

    def covered(self, steps: slice) -> slice:
        """The steps of all tokens that hold one of `steps`."""
        width = self.config.patch_steps
        return slice(steps.start // width * width, -(-steps.stop // width) * width)


class _FoldedBlock:
    """One transformer block at a fixed noise level."""

    def __init__(self, block: Block, level: Tensor) -> None:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = block.modulate(level).chunk(6)
        self._heads, width = block.heads, block.project.in_features
        weight, bias = _behind_norm(block.qkv.weight, block.qkv.bias, shift_a, scale_a)
        self._query = weight[:width].contiguous(), bias[:width].contiguous()
        self._pair = weight[width:].contiguous(), bias[width:].contiguous()
        self._project = gate_a[:, None] * block.project.weight, gate_a * block.project.bias
        self._widen = _behind_norm(block.widen.weight, block.widen.bias, shift_m, scale_m)
        self._narrow = gate_m[:, None] * block.narrow.weight, gate_m * block.narrow.bias

    def __call__(self, hidden: Tensor, wanted: slice) -> Tensor:
        """hidden: [batch, token, width] -> the wanted tokens of the block's output."""
        normed, kept = _norm(hidden), hidden[:, wanted]
        key, value = functional.linear(normed, *self._pair).chunk(2, dim=-1)
        query = functional.linear(normed[:, wanted], *self._query)
        mixed = functional.scaled_dot_product_attention(self._split(query), self._split(key), self._split(value))
        kept = kept + functional.linear(mixed.transpose(1, 2).flatten(2), *self._project)
        inner = functional.silu(functional.linear(_norm(kept), *self._widen), inplace=True)
        return kept.add_(functional.linear(inner, *self._narrow))

    def _split(self, part: Tensor) -> Tensor:
        """[batch, token, width] -> [batch, head, token, width / heads]"""
        return part.view(*part.shape[:2], self._heads, -1).transpose(1, 2)


def _norm(hidden: Tensor) -> Tensor:
    return functional.layer_norm(hidden, hidden.shape[-1:])


def _behind_norm(weight: Tensor, bias: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """W (n (1 + scale) + shift) + b as W' n + b'."""
    return weight * (1 + scale), bias + weight @ shift
