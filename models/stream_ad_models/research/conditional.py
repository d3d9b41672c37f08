"""Conditionals under any mask: one pass, or joint draws. The product asks for stripe masks alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad.errors import DataError
from stream_ad_models.imputer.conditioning import condition
from stream_ad_models.imputer.denoiser import Denoiser
from stream_ad_models.imputer.imputer import DenoiserImputer, Imputation
from stream_ad_models.research.sampler import sample_targets

__all__ = ["impute_masked", "sample"]

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

CHUNK_ROWS = 256


def impute_masked(imputer: DenoiserImputer, windows: Float32, cond_mask: Bool) -> Imputation:
    """One pass with the caller's own condition; visible points come back as they are, with std 0.

    cond_mask: bool [batch, window, channel], True = the model may look at it (a missing reading never is).
    """
    rows, shape = imputer.to_rows(windows)
    if cond_mask.shape != windows.shape:
        raise DataError(f"cond_mask: expected the windows' shape {windows.shape}, found {cond_mask.shape}")
    cond, _ = imputer.to_rows(cond_mask.astype(np.float32))
    mean, variance = torch.empty_like(rows), torch.empty_like(rows)
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            visible = (cond[part] > 0) & ~rows[part].isnan()
            values = rows[part].nan_to_num()
            passed_mean, passed_variance = _pass(imputer.model, values, visible)
            mean[part] = torch.where(visible, values, passed_mean)
            variance[part] = torch.where(visible, 0.0, passed_variance)
    return Imputation(
        imputer.from_rows(mean, shape), imputer.from_rows(variance.sqrt() * float(imputer.card["temperature"]), shape)
    )


def sample(
    imputer: DenoiserImputer, windows: Float32, cond_mask: Bool, *, samples: int, seed: int, sampler_steps: int = 12
) -> Float32:
    """Joint draws of the hidden points, float32 [samples, batch, window, channel]; visible points as they are.

    Quantiles over the first axis are bands. Draws repeat for a given seed and batch.
    """
    rows, shape = imputer.to_rows(windows)
    cond, _ = imputer.to_rows(cond_mask.astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty((samples, *rows.shape))
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            values = rows[part].nan_to_num()
            visible = (cond[part] > 0) & ~rows[part].isnan()
            given = condition(values, visible)
            for draw in range(samples):
                hidden = sample_targets(imputer.model, given, sampler_steps, generator) * given.scale + given.centre
                drawn[draw, part] = torch.where(visible, values, hidden)
    return np.stack([imputer.from_rows(draw, shape) for draw in drawn])


def _pass(model: Denoiser, values: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Conditional mean and variance in the units of the input, [n, window, K]."""
    config = model.config
    given = condition(values, visible)
    mean, variance = model(torch.zeros_like(values), torch.tensor([config.sigma_max]), given)
    return mean * given.scale + given.centre, variance * given.scale**2
