"""The imputers: the expected value of each reading of a window, given the others, in one network pass.

Windows are float32 [batch, window, channel], already z-scored per channel; NaN = no reading. One pass from sigma_max
without noise gives the conditional mean (EDM: D(x; sigma) = E[y | x], and at sigma_max x carries no information on y),
the log v output its predictive variance. Two complementary stripe masks make every reading a target exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad.errors import DataError, ModelError
from stream_ad_models.imputer.checkpoint import load_denoiser, save_denoiser
from stream_ad_models.imputer.conditioning import condition, condition_shared_mask
from stream_ad_models.imputer.denoiser import Denoiser
from stream_ad_models.imputer.intervals import interval_factor
from stream_ad_models.imputer.masks import complementary_stripes
from stream_ad_models.imputer.one_pass import FoldedDenoiser

__all__ = ["DEFAULT_WEIGHTS", "DenoiserImputer", "GroupImputer", "Imputation", "UniversalImputer"]

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "universal.safetensors"
# Windows per network call, of one channel and of many: activations stay in the processor's cache.
_CHUNK_ROWS = 256
_CHUNK_GROUP_ROWS = 64


@dataclass(frozen=True, slots=True)
class Imputation:
    """Each reading given the others, float32 [batch, window, channel], in the units of the input.

    std: predictive standard deviation of the reading about `mean`, calibrated by the model card's temperature.
    """

    mean: Float32
    std: Float32


class DenoiserImputer:
    """Imputation by one denoiser of K channels per token. Thread-safe: it has no state but its weights."""

    def __init__(self, model: Denoiser, card: Mapping[str, Any]) -> None:
        """card: temperature and bands as `intervals.interval_factors` measures them, and facts of the training."""
        temperature = float(card["temperature"])
        if not temperature > 0:
            raise ModelError(f"model card: expected a positive temperature, found {temperature}")
        self.model = model.eval()
        self._one_pass = FoldedDenoiser(model)
        self._chunk = _CHUNK_ROWS if model.config.channels == 1 else _CHUNK_GROUP_ROWS
        self._temperature = temperature
        self.card = dict(card)

    @property
    def window_steps(self) -> int:
        return self.model.config.window_steps

    @property
    def version(self) -> str:
        """Of the weights: the first 12 hex digits of their sha256, "unsaved" before they are saved."""
        return str(self.card.get("sha256", "unsaved"))[:12]

    def interval_factor(self, coverage: float) -> float:
        """Half-width, in `Imputation.std`, of the interval that holds `coverage` (0 to 1) of normal readings."""
        return interval_factor(self.card["bands"], coverage)

    def standard_errors(self, windows: Float32, stripe: int) -> Float32:
        """(reading - mean) / std of every present reading, float32 [n]."""
        imputed = self.impute(windows, stripe=stripe)
        errors = (windows - imputed.mean) / imputed.std
        return np.asarray(errors[~np.isnan(errors)])

    def impute(self, windows: Float32, *, stripe: int) -> Imputation:
        """One pass per complementary stripe mask of `stripe` steps; every point is a target once.

        A missing reading is a target of both passes: its mean and variance are the averages of the two.
        """
        return self.impute_steps(windows, stripe=stripe, steps=slice(0, self.window_steps))

    def impute_steps(self, windows: Float32, *, stripe: int, steps: slice) -> Imputation:
        """`impute` of some steps alone, [batch, step, channel], without the work that only the others need.

        Where one stripe mask hides all of them, one pass is enough, and missing readings are imputed by that pass.
        """
        rows, shape = self.to_rows(windows)
        first, second = (torch.from_numpy(mask) for mask in complementary_stripes(self.window_steps, stripe))
        masks = [mask for mask in (first, second) if not mask[steps].any()] or [first, second]
        mean = torch.empty(len(rows), steps.stop - steps.start, rows.shape[2])
        variance = torch.empty_like(mean)
        whole = ~rows.isnan().flatten(1).any(dim=1)
        with torch.inference_mode():
            for complete in (True, False):
                numbers = torch.nonzero(whole == complete)[:, 0]
                for start in range(0, len(numbers), self._chunk):
                    some = numbers[start : start + self._chunk]
                    mean[some], variance[some] = self._striped(rows[some], masks, steps, complete)
        shape = (shape[0], mean.shape[1], shape[2])
        return Imputation(self.from_rows(mean, shape), self.from_rows(variance.sqrt_() * self._temperature, shape))

    def _striped(self, rows: Tensor, masks: Sequence[Tensor], steps: slice, complete: bool) -> tuple[Tensor, Tensor]:
        """Mean and variance of `steps`, each from the pass that hides it. rows: [n, window, K], NaN = no reading, none
        if `complete`; masks: bool [window] each, one that hides all the steps or two that complement each other."""
        found = [self._read(rows, mask, steps, complete) for mask in masks]
        if len(found) == 1:
            return found[0]
        hidden = ~masks[0][steps, None]
        (mean_a, variance_a), (mean_b, variance_b) = found
        mean, variance = torch.where(hidden, mean_a, mean_b), torch.where(hidden, variance_a, variance_b)
        if complete:
            return mean, variance
        missing = rows[:, steps].isnan()
        return (
            torch.where(missing, (mean_a + mean_b) / 2, mean),
            torch.where(missing, (variance_a + variance_b) / 2, variance),
        )

    def _read(self, rows: Tensor, mask: Tensor, steps: slice, complete: bool) -> tuple[Tensor, Tensor]:
        """One pass: conditional mean and variance of `steps` in the units of the input, [n, step, K]."""
        shown = mask[:, None] & ~rows.isnan()
        given = condition_shared_mask(rows, mask) if complete else condition(rows.nan_to_num(), shown)
        mean, variance = self._one_pass(given, steps)
        skip = steps.start - self._one_pass.covered(steps).start
        part = slice(skip, skip + steps.stop - steps.start)
        return mean[:, part] * given.scale + given.centre, variance[:, part] * given.scale**2

    def _check(self, windows: Float32) -> None:
        if windows.ndim != 3 or windows.shape[1] != self.window_steps:
            raise DataError(
                f"windows: expected shape [batch, {self.window_steps}, channel], found {list(windows.shape)}"
            )
        if np.isinf(windows).any():
            raise DataError("windows: expected finite values or NaN (missing), found infinity")

    def to_rows(self, windows: Float32) -> tuple[Tensor, tuple[int, ...]]:
        """[batch, window, channel] as network rows [n, window, K], and the shape for `from_rows`."""
        self._check(windows)
        channels = self.model.config.channels
        if windows.shape[2] != channels:
            raise DataError(f"windows: expected {channels} channels, found {windows.shape[2]}")
        return torch.from_numpy(np.ascontiguousarray(windows, dtype=np.float32)), windows.shape

    def from_rows(self, rows: Tensor, shape: tuple[int, ...]) -> Float32:
        return np.asarray(rows.reshape(shape).numpy())


class UniversalImputer(DenoiserImputer):
    """The imputer of the package: pretrained on synthetic series, channel by channel."""

    def __init__(self, model: Denoiser, card: Mapping[str, Any]) -> None:
        if model.config.channels != 1:
            raise ModelError(f"universal imputer: expected weights of 1 channel, found {model.config.channels}")
        super().__init__(model, card)

    @classmethod
    def load(cls, path: Path | None = None) -> UniversalImputer:
        """The packaged weights, or those at `path` (a safetensors file with its JSON card beside it); cached."""
        return _load(path or DEFAULT_WEIGHTS)

    def to_rows(self, windows: Float32) -> tuple[Tensor, tuple[int, ...]]:
        """Every channel of every window becomes one row: [batch * channel, window, 1]."""
        self._check(windows)
        flat = np.ascontiguousarray(windows.transpose(0, 2, 1), dtype=np.float32)
        return torch.from_numpy(flat.reshape(-1, self.window_steps, 1)), windows.shape

    def from_rows(self, rows: Tensor, shape: tuple[int, ...]) -> Float32:
        batch, window, channels = shape
        return np.ascontiguousarray(rows.numpy().reshape(batch, channels, window).transpose(0, 2, 1))


class GroupImputer(DenoiserImputer):
    """A group model: one denoiser over all K channels of similar series, trained on their normal rows.

    A token holds a patch of every channel, so the model uses dependencies between channels, and one pass serves all.
    """

    @classmethod
    def load(cls, path: Path) -> GroupImputer:
        """path: the safetensors file that `save` returned, its model card beside it."""
        return cls(*load_denoiser(path))

    def save(self, directory: Path, name: str) -> Path:
        """Writes <name>.safetensors and <name>.json; returns the path to load from."""
        return save_denoiser(self.model, directory, name, self.card)


@lru_cache(maxsize=4)
def _load(path: Path) -> UniversalImputer:
    return UniversalImputer(*load_denoiser(path))
