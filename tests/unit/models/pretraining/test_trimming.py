"""Trimmed training: which windows are left out, and that it keeps anomalies of the history from being learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig
from stream_ad_models.pretraining.trainer import Batch, FitSettings, diffusion_loss, kept_windows


def test_the_windows_farthest_from_what_was_expected_are_left_out() -> None:
    ratio = torch.ones(10, 4, 1)
    ratio[3], ratio[7] = 5.0, 9.0
    ratio[5, 0] = 100.0
    target = torch.ones(10, 4, 1)
    target[5, 0] = 0.0  # not a target: its error says nothing
    kept = kept_windows(ratio, target, 0.2)
    assert kept.shape == (10, 1, 1)
    assert [number for number in range(10) if not kept[number]] == [3, 7]
    assert kept_windows(ratio, target, 0.04).all()  # less than half a window
    with pytest.raises(ValueError, match="from 0 to below 1, found 1"):
        kept_windows(ratio, target, 1.0)


def test_a_strange_window_teaches_nothing() -> None:
    """The gradient of a trimmed batch does not depend on what the rejected window holds."""

    def gradient(size: float, trim: float) -> torch.Tensor:
        torch.manual_seed(0)
        model = Denoiser(DenoiserConfig())
        rng = np.random.default_rng(0)
        values = np.sin(np.arange(128) / 3 + rng.random((8, 1)) * 6)[..., None].astype(np.float32)
        cond = np.broadcast_to((np.arange(128) // 8 % 2 == 0)[None, :, None], values.shape)
        values[2] = np.where(cond[2], values[2], size)
        settings = FitSettings(steps=1, trim=trim, at_sigma_max=1.0)
        loss = diffusion_loss(model, Batch(values, cond.copy(), ~cond), torch.Generator().manual_seed(1), settings)
        (found,) = torch.autograd.grad(loss, [model.read.bias])
        return found

    assert torch.allclose(gradient(5.0, 0.125), gradient(-4.0, 0.125))
    assert not torch.allclose(gradient(5.0, 0.0), gradient(-4.0, 0.0))
