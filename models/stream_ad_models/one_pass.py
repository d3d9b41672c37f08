"""The denoiser as a stream runs it: one pass from sigma_max, nothing noisy fed, read at some tokens alone.

At one fixed noise level the modulation of every layer norm is a constant, so it is folded into the linear maps around
it, and the noisy input, 0 everywhere, drops out. The last block is computed for the tokens that are asked for; the
others serve it as keys and values only. The same numbers as `Denoiser.forward` to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stream_ad_models.conditioning import Condition
from stream_ad_models.denoiser import Block, Denoiser, log_variance, preconditioning, straight_map

__all__ = ["OnePass"]

_FED = 4  # of the denoiser's five inputs: all but the noisy targets


class OnePass:
    """Made of a trained denoiser; does not follow it when it is trained on."""

    def __init__(self, model: Denoiser) -> None:
        config = self.config = model.config
        with torch.no_grad():
            factor = preconditioning(torch.tensor([config.sigma_max]), config.sigma_data)
            level = model.level_of(factor.c_noise).view(-1)
            fed = _FED * config.patch_steps * config.channels
            self._embed = model.embed.weight[:, :fed].contiguous()
            self._start = model.position + model.embed.bias
            self._blocks = [_FoldedBlock(block, level) for block in model.blocks if isinstance(block, Block)]
            shift, scale = model.last(level).chunk(2)
            self._read = _behind_norm(model.read.weight, model.read.bias, shift, scale)
            self._straight = model.straight.weight[:, : _FED * config.patch_steps].contiguous()
            self._across = None
            if model.across is not None:
                self._across = model.across.weight[:, : _FED * config.channels].contiguous()
            self._c_out = float(factor.c_out)

    def __call__(self, given: Condition, steps: slice) -> tuple[Tensor, Tensor]:
        """Mean and variance, standardised, [batch, step, channel] of the steps of all tokens that `steps` touches;
        `covered` says which these are. given: [batch, window, channel]."""
        batch, width = len(given.values), self.config.patch_steps
        parts = (given.values, given.mask.expand_as(given.values), given.guide, given.echo)
        tokens = torch.cat([part.reshape(batch, self.config.tokens, -1) for part in parts], dim=-1)
        here = self.covered(steps)
        wanted = slice(here.start // width, here.stop // width)
        hidden = functional.linear(tokens, self._embed).add_(self._start)
        for block in self._blocks[:-1]:
            hidden = block(hidden, slice(0, self.config.tokens))
        hidden = self._blocks[-1](hidden, wanted) if self._blocks else hidden[:, wanted]
        out = functional.linear(_norm(hidden), *self._read)
        out += straight_map(tokens[:, wanted], self._straight, self._across, self.config)
        mean, log_v = out.chunk(2, dim=-1)
        shape = (batch, here.stop - here.start, self.config.channels)
        return mean.reshape(shape) * self._c_out, log_variance(log_v).exp().reshape(shape) * self._c_out**2

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
