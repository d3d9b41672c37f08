"""The conditional denoiser: EDM preconditioning around a small transformer over patches of a window.

Karras, Aittala, Aila, Laine: Elucidating the Design Space of Diffusion-Based Generative Models (NeurIPS 2022).
Tensors are float32 [batch, window, channel]. All channels of a patch share one token, so the same class serves the
universal imputer (one channel) and the group model (K channels).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stream_ad_models.imputer.conditioning import Condition

__all__ = ["Block", "Denoiser", "DenoiserConfig", "Preconditioning", "linear_skip", "log_variance", "preconditioning"]

_LOG_V_FLOOR = -9.0  # of the network's unit-variance target: a standard deviation of .011
_FREQUENCIES = 16
_INPUTS = 5  # per reading: value, mask, guide, autocorrelation, noisy target


@dataclass(frozen=True, slots=True)
class DenoiserConfig:
    """Shape and noise scale of a denoiser. sigma_*: in units of the standardised window."""

    channels: int = 1
    window_steps: int = 128
    patch_steps: int = 8
    width: int = 64
    blocks: int = 2
    heads: int = 4
    mlp_ratio: int = 2
    sigma_data: float = 1.0
    sigma_min: float = 0.01
    sigma_max: float = 40.0

    def __post_init__(self) -> None:
        if self.window_steps % self.patch_steps:
            raise ValueError(
                f"denoiser: expected window_steps a multiple of patch_steps = {self.patch_steps}, "
                f"found {self.window_steps}"
            )
        if self.width % self.heads:
            raise ValueError(f"denoiser: expected width a multiple of heads = {self.heads}, found {self.width}")

    @property
    def tokens(self) -> int:
        return self.window_steps // self.patch_steps

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Preconditioning:
    """c_skip, c_out, c_in, c_noise of EDM table 1; each broadcasts against sigma."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def preconditioning(sigma: Tensor, sigma_data: float) -> Preconditioning:
    """EDM eq. 7 and table 1: network input, training target and loss weight all have unit variance at every sigma."""
    total = sigma**2 + sigma_data**2
    return Preconditioning(
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data / total.sqrt(),
        c_in=1 / total.sqrt(),
        c_noise=sigma.log() / 4,
    )


def log_variance(raw: Tensor) -> Tensor:
    """The network's second output, bounded below; a bound whose gradient never dies."""
    return _LOG_V_FLOOR + functional.softplus(raw - _LOG_V_FLOOR)


def linear_skip(tokens: Tensor, along: Tensor, across: Tensor | None, config: DenoiserConfig) -> Tensor:
    """[batch, token, inputs * patch * channel] -> [batch, token, 2 * patch * channel], by two linear maps, added.

    along: each channel's steps by themselves, [2 * patch, inputs * patch]; across: each step's channels by themselves,
    [2 * channel, inputs * channel], None for one channel.
    """
    if across is None:
        return functional.linear(tokens, along)
    inputs = tokens.reshape(*tokens.shape[:2], -1, config.patch_steps, config.channels)
    by_channel = functional.linear(inputs.flatten(2, 3).transpose(2, 3), along).transpose(2, 3)
    by_step = functional.linear(inputs.transpose(2, 3).flatten(3), across)
    by_step = by_step.reshape(*by_step.shape[:3], 2, config.channels).transpose(2, 3)
    return by_channel.flatten(2) + by_step.flatten(2)


class Block(nn.Module):
    """Transformer block whose two layer norms are shifted, scaled and gated by the noise level (DiT, adaLN-zero)."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.modulate = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.widen = nn.Linear(width, config.mlp_ratio * width)
        self.narrow = nn.Linear(config.mlp_ratio * width, width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, hidden: Tensor, level: Tensor) -> Tensor:
        """hidden: [batch, token, width]; level: [batch or 1, 1, width]."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulate(level).chunk(6, dim=-1)
        normed = functional.layer_norm(hidden, hidden.shape[-1:])
        hidden = hidden + gate_a * self._attend(torch.addcmul(shift_a, normed, 1 + scale_a))
        normed = functional.layer_norm(hidden, hidden.shape[-1:])
        inner = functional.silu(self.widen(torch.addcmul(shift_m, normed, 1 + scale_m)))  # not GELU: ADR 22
        return torch.addcmul(hidden, gate_m, self.narrow(inner))

    def _attend(self, hidden: Tensor) -> Tensor:
        batch, tokens, width = hidden.shape
        split = self.qkv(hidden).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return torch.as_tensor(self.project(mixed.transpose(1, 2).reshape(batch, tokens, width)))


class Denoiser(nn.Module):
    """D(x; sigma, condition) and its log variance."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        features = config.patch_steps * config.channels
        self.embed = nn.Linear(_INPUTS * features, config.width)
        self.position = nn.Parameter(torch.randn(1, config.tokens, config.width) * 0.1)
        self.level = nn.Sequential(nn.Linear(2 * _FREQUENCIES, config.width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.last = nn.Linear(config.width, 2 * config.width)
        self.read = nn.Linear(config.width, 2 * features)
        # Linear skip from inputs to outputs: interpolation, autocorrelation and ties between channels bypass the
        # transformer. One map along the patch, one across the channels: a joint one would be too large (ADR 22).
        self.straight = nn.Linear(_INPUTS * config.patch_steps, 2 * config.patch_steps, bias=False)
        several = config.channels > 1
        self.across = nn.Linear(_INPUTS * config.channels, 2 * config.channels, bias=False) if several else None
        if self.across is not None:
            nn.init.zeros_(self.across.weight)
        for layer in (self.last, self.read, self.straight):
            nn.init.zeros_(layer.weight)
        frequencies = torch.exp(torch.linspace(math.log(0.5), math.log(30.0), _FREQUENCIES))
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies, persistent=False)

    def _tokens(self, window: Tensor) -> Tensor:
        """[batch, window, channel] -> [batch, token, patch * channel]"""
        return window.reshape(window.shape[0], self.config.tokens, -1)

    def level_of(self, c_noise: Tensor) -> Tensor:
        """Embedding of the noise level, [batch or 1, 1, width]; c_noise: [batch or 1]."""
        angle = c_noise[:, None, None] * self.frequencies
        return torch.as_tensor(self.level(torch.cat([angle.sin(), angle.cos()], dim=-1)))

    def network(self, noisy: Tensor, c_noise: Tensor, given: Condition) -> tuple[Tensor, Tensor]:
        """The raw network F and log v, both [batch, window, channel]. c_noise: [batch or 1]."""
        inputs = (given.values, given.mask, given.guide, given.autocorrelation, noisy)
        tokens = torch.cat([self._tokens(part) for part in inputs], dim=-1)
        level = self.level_of(c_noise)
        hidden = self.embed(tokens) + self.position
        for block in self.blocks:
            hidden = block(hidden, level)
        shift, scale = self.last(level).chunk(2, dim=-1)
        hidden = torch.addcmul(shift, functional.layer_norm(hidden, hidden.shape[-1:]), 1 + scale)
        across = None if self.across is None else self.across.weight
        skip = linear_skip(tokens, self.straight.weight, across, self.config)
        mean, log_v = (self.read(hidden) + skip).chunk(2, dim=-1)
        shape = (tokens.shape[0], self.config.window_steps, self.config.channels)
        return mean.reshape(shape), log_variance(log_v).reshape(shape)

    def forward(self, noisy: Tensor, sigma: Tensor, given: Condition) -> tuple[Tensor, Tensor]:
        """The denoised window and the variance of what remains unknown, both standardised, [batch, window, channel].

        noisy: standardised targets plus noise of standard deviation sigma; read at the hidden points only.
        sigma: [batch] or [1]. D = c_skip x + c_out F(c_in x; c_noise)  (EDM eq. 7); variance = c_out^2 v.
        """
        factor = preconditioning(sigma.view(-1, 1, 1), self.config.sigma_data)
        hidden = noisy * (1 - given.mask)
        raw, log_v = self.network(factor.c_in * hidden, factor.c_noise.view(-1), given)
        return factor.c_skip * hidden + factor.c_out * raw, factor.c_out**2 * log_v.exp()
