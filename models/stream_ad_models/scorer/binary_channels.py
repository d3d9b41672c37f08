"""Binary channels (only 0 and 1 in the history) are scored by the self-information of their steps, not by distance.

A binary channel is a Markov chain; a step's self-information (Shannon) is -log of its share among the history's steps
from the same state, with a prior of half a step. Staying in a state that the history never saw counts as 0: the step
into it was the surprise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.scorer.normaliser import Normaliser
from stream_ad_models.scorer.point_error import PointError, kept_blocks

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = [
    "BinaryChannelState", "binary_ends", "binary_states", "held_out_surprise", "step_surprise", "surprise_smoother",
]  # fmt: skip

_OTHER, _MISSING = 2, 3  # states besides 0 and 1: another value, and no reading
_PRIOR = 0.5  # steps, shared by the three states that can follow
_NATS = 10.0  # of surprise count as 1


def binary_ends(normaliser: Normaliser) -> Float32:
    """z-scores of 0 and of 1 of the binary channels, [2, channel]."""
    binary = ~normaliser.scored
    ends = np.zeros((2, len(binary)), np.float32)
    ends[1] = 1
    return normaliser.apply(ends)[:, binary]


def binary_states(z: Float32, ends: Float32) -> NDArray[np.int64]:
    """z: z-scores of the binary channels [..., channel], `ends` of `binary_ends` -> their states, the same shape."""
    off, on = ends
    states = np.where(z > (off + on) / 2, 1, 0)
    states[np.abs(z - np.where(states == 1, on, off)) > (on - off) / 4] = _OTHER
    states[np.isnan(z)] = _MISSING
    return states


def step_surprise(states: NDArray[np.int64]) -> Float64:
    """History's states [n, channel] -> surprise in nats [channel, from, to], 4 x 4; 0 from and to missing readings."""
    channels = states.shape[1]
    steps = np.zeros((channels, 4, 4))
    np.add.at(steps, (np.arange(channels), states[:-1], states[1:]), 1.0)
    known = steps[:, :_MISSING, :_MISSING]
    share = (known + _PRIOR / _MISSING) / (known.sum(axis=2, keepdims=True) + _PRIOR)
    out = np.zeros_like(steps)
    out[:, :_MISSING, :_MISSING] = -np.log(share)
    for state in range(_MISSING):
        out[known[:, state].sum(axis=1) == 0, state, state] = 0.0
    out[known.sum(axis=(1, 2)) == 0] = 0.0  # a channel without readings
    return out


def _surprise(states: NDArray[np.int64], steps: Float64) -> Float64:
    """Of each step in nats, states [..., n, channel] -> [..., n, channel]; 0 for the first row."""
    out = np.zeros(states.shape)
    out[..., 1:, :] = steps[np.arange(states.shape[-1]), states[..., :-1, :], states[..., 1:, :]]
    return out


def held_out_surprise(states: NDArray[np.int64]) -> Float64:
    """[n, channel]: each half of the history by the other half's steps."""
    middle = len(states) // 2
    first, second = states[:middle], states[middle:]
    return np.concatenate([_surprise(first, step_surprise(second)), _surprise(second, step_surprise(first))])


def surprise_smoother(channels: int, hop: int, look_ahead: int) -> PointError:
    """Smooths the surprise of so many channels as other errors are smoothed, and adds it up."""
    return PointError(np.full(channels, _NATS / channels), hop, look_ahead)


class BinaryChannelState:
    """Running surprise of one stream's binary channels; blocks are numbered from the series' first slot."""

    def __init__(self, normaliser: Normaliser, steps: Float64, usual: float, hop: int, look_ahead: int) -> None:
        """steps: of `step_surprise`; usual: log value up to which surprise does not count."""
        self._steps, self._usual, self._hop = steps, usual, hop
        self._ends = binary_ends(normaliser)
        self._point = surprise_smoother(len(steps), hop, look_ahead)
        self.clear(0)

    def clear(self, next_block: int) -> None:
        """Forgets everything; the next windows end with block `next_block`."""
        self._levels = np.empty((len(self._steps), 0, self._hop))
        self.next_block = next_block

    def push(self, z: Float32) -> None:
        """z-scores of the binary channels [window, steps, channel], windows one hop apart; their last block is new."""
        states = binary_states(z[:, -(self._hop + 1) :], self._ends)
        new = _surprise(states, self._steps)[:, -self._hop :] / _NATS
        self._levels = np.concatenate([self._levels, new.transpose(2, 0, 1)], axis=1)
        self.next_block += len(z)

    def values(self, blocks: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[Float64, Float32]:
        """At the slots of blocks [n], none after block `known` [n] used: log of the total surprise, at least the usual
        one [n, hop], and each channel's part of the excess, in multiples of the usual [n, hop, channel]."""
        each = self._point.smoothed(self._levels, blocks, self.next_block - self._levels.shape[1], known)
        values = np.maximum(self._point.log(each.sum(axis=0)), self._usual)
        parts = each * (np.exp(-self._usual) - np.exp(-values))
        return values, parts.transpose(1, 2, 0).astype(np.float32)

    def trim(self) -> None:
        """Drops what no later slot needs."""
        self._levels = self._levels[:, -kept_blocks(self._hop) :].copy()
