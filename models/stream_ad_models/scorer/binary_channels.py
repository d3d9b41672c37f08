"""Flags (channels of nothing but 0 and 1) are not scored by distance, but by the surprise of what they do.

A flag is a chain of states; a step's surprise is -log of its share among the history's steps from the same state
(Shannon's self-information, with a prior of half a step). To stay in a state never seen before is no surprise: the
step into it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ad_models.scorer.normaliser import Normaliser
from stream_ad_models.scorer.point_error import PointError, kept_blocks

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["BinaryChannelState", "flag_ends", "flag_level", "flag_states", "held_out_surprise", "step_surprise"]

_OTHER, _MISSING = 2, 3  # besides 0 and 1: any other reading, and none
_PRIOR = 0.5  # steps, shared by the three states a flag may go to
_NATS = 10.0  # of surprise count as one; less than a hundredth of it counts as nothing


def flag_ends(normaliser: Normaliser) -> Float32:
    """z-scores of 0 and of 1 of the channels that are not scored, [2, flag]."""
    flags = ~normaliser.scored
    ends = np.zeros((2, len(flags)), np.float32)
    ends[1] = 1
    return normaliser.apply(ends)[:, flags]


def flag_states(z: Float32, ends: Float32) -> NDArray[np.int64]:
    """z: z-scores of the flags [..., flag], `ends` of `flag_ends` -> their states, likewise."""
    off, on = ends
    states = np.where(z > (off + on) / 2, 1, 0)
    states[np.abs(z - np.where(states == 1, on, off)) > (on - off) / 4] = _OTHER
    states[np.isnan(z)] = _MISSING
    return states


def step_surprise(states: NDArray[np.int64]) -> Float64:
    """History's states [n, flag] -> surprise in nats [flag, from, to], 4 x 4; 0 from or to no reading."""
    flags = states.shape[1]
    steps = np.zeros((flags, 4, 4))
    np.add.at(steps, (np.arange(flags), states[:-1], states[1:]), 1.0)
    known = steps[:, :_MISSING, :_MISSING]
    share = (known + _PRIOR / _MISSING) / (known.sum(axis=2, keepdims=True) + _PRIOR)
    out = np.zeros_like(steps)
    out[:, :_MISSING, :_MISSING] = -np.log(share)
    for state in range(_MISSING):
        out[known[:, state].sum(axis=1) == 0, state, state] = 0.0
    out[known.sum(axis=(1, 2)) == 0] = 0.0  # never read
    return out


def _surprise(states: NDArray[np.int64], steps: Float64) -> Float64:
    """Of each step in nats, states [..., n, flag] -> [..., n, flag]; 0 for the first row."""
    out = np.zeros(states.shape)
    out[..., 1:, :] = steps[np.arange(states.shape[-1]), states[..., :-1, :], states[..., 1:, :]]
    return out


def held_out_surprise(states: NDArray[np.int64]) -> Float64:
    """[n, flag]: each half of the history by the other half's steps."""
    middle = len(states) // 2
    first, second = states[:middle], states[middle:]
    return np.concatenate([_surprise(first, step_surprise(second)), _surprise(second, step_surprise(first))])


def flag_level(flags: int, hop: int, ahead: int) -> PointError:
    """Smooths the surprise of so many flags as other errors are smoothed, and adds them up."""
    return PointError(np.full(flags, _NATS / flags), hop, ahead)


class BinaryChannelState:
    """Running surprise of one stream's flags; blocks are numbered from the series' first slot."""

    def __init__(self, normaliser: Normaliser, steps: Float64, usual: float, hop: int, ahead: int) -> None:
        """steps: of `step_surprise`; usual: log value up to which flags say nothing."""
        self._steps, self._usual, self._hop = steps, usual, hop
        self._ends = flag_ends(normaliser)
        self._point = flag_level(len(steps), hop, ahead)
        self.clear(0)

    def clear(self, next_block: int) -> None:
        """Forgets everything; the next windows end with block `next_block`."""
        self._levels = np.empty((len(self._steps), 0, self._hop))
        self.next_block = next_block

    def push(self, z: Float32) -> None:
        """z-scores of the flags [window, steps, flag], windows one hop apart; of each the last block is new."""
        states = flag_states(z[:, -(self._hop + 1) :], self._ends)
        new = _surprise(states, self._steps)[:, -self._hop :] / _NATS
        self._levels = np.concatenate([self._levels, new.transpose(2, 0, 1)], axis=1)
        self.next_block += len(z)

    def values(self, blocks: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[Float64, Float32]:
        """Of the slots of blocks [n], nothing after block `known` [n] looked at: log of what all flags say, not below
        the usual [n, hop], and each flag's part in what is over it, in multiples of it [n, hop, flag]."""
        each = self._point.smoothed(self._levels, blocks, self.next_block - self._levels.shape[1], known)
        values = np.maximum(self._point.log(each.sum(axis=0)), self._usual)
        parts = each * (np.exp(-self._usual) - np.exp(-values))
        return values, parts.transpose(1, 2, 0).astype(np.float32)

    def trim(self) -> None:
        """Drops what no later slot needs."""
        self._levels = self._levels[:, -kept_blocks(self._hop) :].copy()
