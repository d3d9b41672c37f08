"""A CSDI network in ImDiffusion's configuration: what the product's cost is compared with. Weights are random.

Tashiro et al.: CSDI (NeurIPS 2021), section 4 and appendix E: residual layers with attention over time, then over
features, of every (channel, time) token. Chen et al.: ImDiffusion (VLDB 2024): 50 steps, windows of 100, two
complementary stripes of 25 steps, the middle 50 points of a window kept: 100 network passes for 50 points.
Tensors of the network are float32 [batch, width, channel, window].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stream_ad.errors import DataError
from stream_ad.ports import Fitted, ScoredSlots, Session, Window

__all__ = ["CsdiNetwork", "CsdiScorer", "passes_per_window"]

Float32 = NDArray[np.float32]

WINDOW, KEPT, BAND = 100, 50, 25
STEPS = 50
VOTING_STEPS = 10  # the errors of the last steps are fused
LAYERS, WIDTH, HEADS, FEED = 4, 64, 8, 64
TIME_WIDTH, CHANNEL_WIDTH, STEP_WIDTH = 128, 16, 128
TOKENS_PER_CALL = 16_384  # more at a time was no faster


def passes_per_window() -> int:
    """Network passes for the KEPT points of one window."""
    return 2 * STEPS


def _sinusoids(positions: Tensor, width: int) -> Tensor:
    """[n] -> [n, width], CSDI's embedding of time and of the diffusion step."""
    rates = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angles = positions[:, None].float() * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class _Attention(nn.Module):
    """One transformer encoder layer over [batch, token, WIDTH], norms after (as CSDI takes it)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, FEED), nn.Linear(FEED, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        split = self.qkv(hidden).view(*hidden.shape[:2], 3, HEADS, WIDTH // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        hidden = self.first(hidden + self.project(mixed.transpose(1, 2).flatten(2)))
        return torch.as_tensor(self.second(hidden + self.narrow(functional.gelu(self.widen(hidden)))))


class _Residual(nn.Module):
    """Gated residual layer (CSDI figure 6); maps over a token's features are linear layers on [batch, K, L, width]."""

    def __init__(self) -> None:
        super().__init__()
        side = TIME_WIDTH + CHANNEL_WIDTH + 1
        self.step = nn.Linear(STEP_WIDTH, WIDTH)
        self.over_time, self.over_channels = _Attention(), _Attention()
        self.middle, self.side = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(side, 2 * WIDTH)
        self.out = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, hidden: Tensor, side: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, steps, width = hidden.shape
        inner = hidden + self.step(step)[:, None, None]
        if steps > 1:
            inner = self.over_time(inner.flatten(0, 1)).view(hidden.shape)
        if channels > 1:
            turned = inner.transpose(1, 2).reshape(batch * steps, channels, width)
            inner = self.over_channels(turned).view(batch, steps, channels, width).transpose(1, 2)
        gate, content = (self.middle(inner) + self.side(side)).chunk(2, dim=-1)
        kept, skipped = self.out(gate.sigmoid() * content.tanh()).chunk(2, dim=-1)
        return (hidden + kept) / math.sqrt(2), skipped


class CsdiNetwork(nn.Module):
    """epsilon(x_t, t | visible values), float32 [batch, channel, window]; of one number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Linear(2, WIDTH)
        self.steps = nn.Sequential(
            nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.SiLU(), nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.SiLU()
        )
        self.channel = nn.Embedding(channels, CHANNEL_WIDTH)
        self.layers = nn.ModuleList(_Residual() for _ in range(LAYERS))
        self.leave, self.read = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.times: Tensor
        self.register_buffer("times", _sinusoids(torch.arange(WINDOW), TIME_WIDTH), persistent=False)

    def forward(self, noisy: Tensor, seen: Tensor, mask: Tensor, step: Tensor) -> Tensor:
        """noisy: 0 at the visible points; seen: 0 at the hidden ones; mask: 1.0 = visible; step: int [batch]."""
        batch, channels, steps = noisy.shape
        side = torch.cat(
            [
                self.times[:steps].expand(batch, channels, steps, TIME_WIDTH),
                self.channel.weight[:, None].expand(batch, channels, steps, CHANNEL_WIDTH),
                mask[..., None],
            ],
            dim=-1,
        )
        embedded = self.steps(_sinusoids(step, STEP_WIDTH))
        hidden = functional.relu(self.enter(torch.stack([seen, noisy], dim=-1)))
        total = torch.zeros_like(hidden)
        for layer in self.layers:
            hidden, skipped = layer(hidden, side, embedded)
            total = total + skipped
        out = self.read(functional.relu(self.leave(total / math.sqrt(LAYERS))))
        return torch.as_tensor(out[..., 0])


@dataclass(frozen=True, slots=True)
class CsdiSession:
    """Holds nothing that moves: a window is all that its points are scored by."""

    centre: Float32
    scale: Float32
    network: CsdiNetwork

    @property
    def channels(self) -> int:
        return len(self.centre)


class CsdiScorer:
    """The Scorer port over the network: points KEPT in the middle of each window, the next window KEPT later."""

    name = "csdi"
    version = "random-weights"
    window_steps = WINDOW
    hop_steps = KEPT
    delay_steps = (WINDOW - KEPT) // 2
    lookback_steps = WINDOW + KEPT

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        beta = torch.linspace(1e-4**0.5, 0.5**0.5, STEPS, dtype=torch.float64) ** 2  # CSDI's quadratic schedule
        self._beta, self._alpha_bar = beta.float(), torch.cumprod(1 - beta, dim=0).float()
        first = torch.arange(WINDOW) // BAND % 2 == 0
        self._stripes = torch.stack([first, ~first]).float()

    def fit(self, history: Float32) -> Fitted:
        """Mean and spread by channel; the held-out scores are those of the history's last window."""
        if history.ndim != 2 or len(history) < WINDOW:
            raise DataError(f"history: expected at least {WINDOW} rows, found shape {list(history.shape)}")
        arrays = {"centre": history.mean(axis=0), "scale": history.std(axis=0) + 1e-6}
        window = Window(history[-WINDOW:], WINDOW - 1, self.delay_steps, self.delay_steps + KEPT)
        [scored] = self.score([(self.open(arrays), window)])
        return Fitted(arrays, scored.raw)

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> CsdiSession:
        centre, scale = (np.asarray(arrays[name], np.float32) for name in ("centre", "scale"))
        torch.manual_seed(self._seed)
        return CsdiSession(centre, scale, CsdiNetwork(len(centre)).eval())

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        out: list[ScoredSlots] = []
        for session, window in batch:  # windows of one session may have other channels than those of the next
            if not isinstance(session, CsdiSession):
                raise TypeError(f"session: expected a CsdiSession, found {type(session)}")
            out.append(self._score(session, window))
        return out

    def score_together(self, session: CsdiSession, windows: Float32) -> tuple[Float32, Float32]:
        """Errors of the last steps and the last imputation, float32 [n, KEPT, channel]; windows [n, WINDOW, channel]
        of one session, as many at once in the network as pays."""
        z = np.nan_to_num((windows - session.centre) / session.scale).transpose(0, 2, 1)
        at_once = max(1, TOKENS_PER_CALL // (2 * WINDOW * session.channels))
        values = torch.from_numpy(np.ascontiguousarray(z, np.float32))
        with torch.inference_mode():
            parts = [values[at : at + at_once] for at in range(0, len(values), at_once)]
            pairs = [self._impute(session.network, part) for part in parts]
        middle = slice(self.delay_steps, self.delay_steps + KEPT)
        errors, imputed = (torch.cat(each)[..., middle].transpose(1, 2).numpy() for each in zip(*pairs, strict=True))
        return errors, imputed * session.scale + session.centre

    def _score(self, session: CsdiSession, window: Window) -> ScoredSlots:
        errors, expected = self.score_together(session, window.rows[None])
        first = window.end_slot + 1 - self.delay_steps - KEPT
        rows = slice(window.emit_from - first, max(window.emit_to, window.emit_from) - first)
        errors, expected = errors[0, rows], expected[0, rows].astype(np.float32)
        shares = errors / np.maximum(errors.sum(axis=1, keepdims=True), 1e-12)
        return ScoredSlots(
            window.emit_from, errors.mean(axis=1).astype(np.float64), expected, expected, expected, shares
        )

    def _impute(self, network: CsdiNetwork, values: Tensor) -> tuple[Tensor, Tensor]:
        """DDPM's reverse process (Ho et al. 2020, algorithm 2) from noise to imputation, both stripe masks at once."""
        count = len(values)
        mask = self._stripes.repeat_interleave(count, dim=0)[:, None].expand(-1, values.shape[1], -1)
        seen = values.repeat(2, 1, 1) * mask
        generator = torch.Generator().manual_seed(self._seed)
        noisy = torch.randn(seen.shape, generator=generator)
        fused = torch.zeros_like(values)
        for step in reversed(range(STEPS)):
            alpha, alpha_bar = 1 - self._beta[step], self._alpha_bar[step]
            noise = network(noisy * (1 - mask), seen, mask, torch.full((len(seen),), step))
            noisy = (noisy - self._beta[step] / (1 - alpha_bar).sqrt() * noise) / alpha.sqrt()
            if step > 0:
                spread = (self._beta[step] * (1 - self._alpha_bar[step - 1]) / (1 - alpha_bar)).sqrt()
                noisy = noisy + spread * torch.randn(seen.shape, generator=generator)
            imputed = torch.where(mask[:count] > 0, noisy[count:], noisy[:count])
            if step < VOTING_STEPS:
                fused += (imputed - values).square()
        return fused, imputed
