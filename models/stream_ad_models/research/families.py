"""The families of diffusion scores as scorers: errors point by point behind the Scorer port.

Families as in the survey of diffusion models for anomaly detection (arXiv 2506.09368): reconstruction, density, score.
All share the network (the universal imputer), the channels, the smoothing and the combiner (baselines/base.py), so that
benchmarks/accuracy/families.py compares the errors alone. Conditional ones hide each reading once, by two stripe masks.
Errors are in z-scores, not in units of the window's visible part, in which a quiet window's rounding would be an
anomaly. What the comparison found: ADR 22.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ad.ports import ScoredSlots, Session, Window
from stream_ad_models.baselines.base import Arrays, Learned, PointErrors, PointwiseScorer, PointwiseSession
from stream_ad_models.defaults import WINDOW_STEPS
from stream_ad_models.imputer.conditioning import Condition, condition
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.imputer.masks import complementary_stripes
from stream_ad_models.research import scores
from stream_ad_models.research.sampler import Denoise, denoiser_of, sample_targets, sigma_schedule

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["FAMILIES", "Family", "FamilyScorer", "View", "family_scorer"]

_MIDDLE = slice(32, 96)  # of a window of the history: rows with context on both sides
_HISTORY_ROWS = 4096  # the latest: enough for means and quantiles
_ROWS_PER_CALL = 128  # windows of one channel: activations stay in the processor's cache
_TRUTH_CLIP = 50.0  # standardised units
_LOWEST = 0.01  # signed errors (a log-density) have no zero: this quantile of the history's is subtracted
_SMALLEST_STD = 0.1


@dataclass(frozen=True, slots=True)
class View:
    """Windows of single channels under one mask, all float32 [n, window, 1]. truth: standardised readings, the guide
    for missing ones; hidden: 1.0 where the denoiser predicts."""

    imputer: UniversalImputer
    given: Condition
    truth: Tensor
    hidden: Tensor

    @property
    def denoise(self) -> Denoise:
        return denoiser_of(self.imputer.model, self.given)

    def one_pass(self) -> tuple[Tensor, Tensor]:
        """Conditional mean and variance, standardised."""
        sigma = torch.tensor([self.imputer.model.config.sigma_max])
        mean, variance = self.imputer.model(torch.zeros_like(self.truth), sigma, self.given)
        return mean, variance

    def squared(self, predicted: Tensor) -> Tensor:
        """Squared errors of standardised predictions, in z-scores."""
        return ((self.truth - predicted) * self.given.scale).square()


Errors = Callable[[View], Tensor]  # -> [n, window, 1]; visible points are not used


@dataclass(frozen=True, slots=True)
class Family:
    """passes: network passes a window, both masks together; a backward pass counts as 1.5 (as measured).

    stripe: width of the two masks; None = one pass with everything hidden. signed: errors may be negative.
    """

    name: str
    passes: float
    errors: Errors
    stripe: int | None = 1
    signed: bool = False


class FamilyErrors:
    """Error function of one session. A row's errors are final once its window holds `delay` rows after it."""

    def __init__(self, arrays: Arrays, scorer: FamilyScorer) -> None:
        self._scorer = scorer
        self._lowest = np.asarray(arrays["family.lowest"], np.float64)
        self._kept = np.zeros((0, len(self._lowest)))
        self._end: int | None = None
        self.prefetched: dict[int, Float64] = {}  # errors of windows of this batch, by their end: one network call

    def __call__(self, z: Float64, end_slot: int) -> PointErrors:
        hop, delay = self._scorer.hop_steps, self._scorer.delay_steps
        fresh = self.prefetched.pop(end_slot, None)
        if fresh is None:
            fresh = self._scorer.window_errors(z[None])[0]
        squares = np.maximum(fresh - self._lowest, 0.0)
        if self._end is not None and end_slot - self._end == hop:
            final = len(squares) - hop - delay
            squares[:final] = self._kept[-final:]
        self._kept, self._end = squares[: len(squares) - delay].copy(), end_slot
        return PointErrors([squares], np.zeros_like(z), np.ones_like(z))


class FamilyScorer(PointwiseScorer):
    """One family as a scorer; its prediction intervals are those of the history."""

    lookback_steps = 2 * WINDOW_STEPS

    def __init__(
        self, family: Family, imputer: UniversalImputer, *, hop_steps: int = 32, delay_steps: int = 32
    ) -> None:
        self._family, self._imputer = family, imputer
        self.name, self.revision = family.name, f"1-{imputer.version}"
        super().__init__(hop_steps=hop_steps, delay_steps=delay_steps)

    def learn(self, z: Float64) -> Learned:
        recent = z[-_HISTORY_ROWS:]
        width = _MIDDLE.stop - _MIDDLE.start
        starts = np.arange(0, len(recent) - WINDOW_STEPS + 1, width)
        errors = self.window_errors(np.stack([recent[start : start + WINDOW_STEPS] for start in starts]))
        held_out = errors[:, _MIDDLE].reshape(-1, z.shape[1])
        lowest = np.quantile(held_out, _LOWEST, axis=0) if self._family.signed else np.zeros(z.shape[1])
        return Learned({"family.lowest": lowest}, [np.maximum(held_out - lowest, 0.0)])

    def error_function(self, arrays: Arrays) -> FamilyErrors:
        return FamilyErrors(arrays, self)

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        for session in {id(each): each for each, _ in batch}.values():
            mine = [(self.check_window(*pair, PointwiseSession), pair[1]) for pair in batch if pair[0] is session]
            normaliser, errors = mine[0][0].normaliser, mine[0][0].errors
            assert isinstance(errors, FamilyErrors)
            z = np.stack([normaliser.apply(window.rows)[:, normaliser.scored] for _, window in mine])
            found = self.window_errors(z.astype(np.float64))
            errors.prefetched = {window.end_slot: each for (_, window), each in zip(mine, found, strict=True)}
        return super().score(batch)

    def window_errors(self, z: Float64) -> Float64:
        """z: float64 [n, window, channel], NaN = no reading (its error is 0) -> errors, the same shape."""
        rows = np.ascontiguousarray(z.transpose(0, 2, 1), dtype=np.float32).reshape(-1, WINDOW_STEPS, 1)
        parts = [
            self._row_errors(torch.from_numpy(rows[at : at + _ROWS_PER_CALL]))
            for at in range(0, len(rows), _ROWS_PER_CALL)
        ]
        errors = np.concatenate(parts).astype(np.float64).reshape(len(z), z.shape[2], WINDOW_STEPS)
        return np.where(np.isnan(z), 0.0, errors.transpose(0, 2, 1))

    def _row_errors(self, rows: Tensor) -> Float32:
        present = ~rows.isnan()
        with torch.no_grad():
            if self._family.stripe is None:
                return np.asarray(self._family.errors(self._view(rows, torch.zeros_like(present))).numpy())
            out = torch.zeros_like(rows)
            for mask in complementary_stripes(WINDOW_STEPS, self._family.stripe):
                view = self._view(rows, present & torch.from_numpy(mask)[None, :, None])
                out += self._family.errors(view) * view.hidden
            return np.asarray(out.numpy())

    def _view(self, rows: Tensor, visible: Tensor) -> View:
        given = condition(rows.nan_to_num(), visible)
        truth = ((rows - given.centre) / given.scale).clamp(-_TRUTH_CLIP, _TRUTH_CLIP)
        return View(self._imputer, given, torch.where(rows.isnan(), given.guide, truth), 1 - given.mask)


def _noise() -> Tensor:
    """The same for every window and channel, so that only their readings differ."""
    return torch.randn((1, WINDOW_STEPS, 1), generator=torch.Generator().manual_seed(0))


# ---- reconstruction


def imputation(view: View) -> Tensor:
    """Squared error of one pass's mean, in z-scores."""
    return view.squared(view.one_pass()[0])


def scaled_imputation(view: View) -> Tensor:
    """The same in predictive standard deviations."""
    mean, variance = view.one_pass()
    floor = _SMALLEST_STD**2 / view.given.scale.square()
    return (view.truth - mean).square() / (variance + floor)


def sampled(draws: int, steps: int) -> Errors:
    """Squared error of the median of draws by DPM-Solver++, as CSDI and ImDiffusion impute; in z-scores."""

    def errors(view: View) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        drawn = [sample_targets(view.imputer.model, view.given, steps, generator, "dpm++") for _ in range(draws)]
        return view.squared(torch.stack(drawn).median(dim=0).values)

    return errors


def _reconstructed(view: View, steps: int, start: float, weight: float) -> Tensor:
    return scores.guided_reconstruction(view.denoise, view.truth, sigma_schedule(steps, 0.05, start), weight, _noise())


def guided_signal(steps: int, start: float, weight: float) -> Errors:
    return lambda view: view.squared(_reconstructed(view, steps, start, weight))


def guided_features(steps: int, start: float, weight: float, sigma: float) -> Errors:
    def errors(view: View) -> Tensor:
        level, model = torch.tensor([sigma]), view.imputer.model
        windows = (view.truth, _reconstructed(view, steps, start, weight))
        first, second = (scores.features(model, window, level, view.given) for window in windows)
        return scores.feature_distance(first, second, model.config.patch_steps)

    return errors


# ---- density


def density(count: int, low: float) -> Errors:
    """-log p of each hidden point's part, in z-scores' units."""
    signs = scores.random_signs((1, 1, WINDOW_STEPS, 1), torch.Generator().manual_seed(0))

    def errors(view: View) -> Tensor:
        levels = scores.log_levels(count, low, view.imputer.model.config.sigma_max)
        return view.given.scale.log() - scores.log_density(view.denoise, view.truth, view.hidden, levels, signs)

    return errors


def losses(count: int, low: float, high: float) -> Errors:
    def errors(view: View) -> Tensor:
        levels = scores.log_levels(count, low, high)
        found = scores.denoising_losses(view.denoise, view.truth, view.hidden, levels, _noise())
        return scores.loss_sum(found, levels) * view.given.scale.square()

    return errors


# ---- score


def score_norm(*sigmas: float) -> Errors:
    def errors(view: View) -> Tensor:
        squares = scores.score_squares(view.denoise, view.truth, view.hidden, torch.tensor(sigmas))
        return squares * view.given.scale.square()

    return errors


FAMILIES: dict[str, Family] = {
    each.name: each
    for each in (
        Family("imputation", 2, imputation),
        Family("imputation-16", 2, imputation, stripe=16),
        Family("imputation-scaled", 2, scaled_imputation),
        Family("imputation-sampled", 2 * 4 * 6, sampled(4, 6)),
        Family("density", 10 * 2.5, density(6, 0.1), stripe=None, signed=True),
        Family("loss-sum", 6, losses(6, 0.05, 10.0), stripe=None),
        Family("loss-sum-masked", 2 * 6, losses(6, 0.05, 10.0)),
        Family("score-norm", 2, score_norm(0.1, 0.5), stripe=None),
        Family("score-norm-masked", 2 * 2, score_norm(0.1, 0.5)),
        Family("ddad-signal", 6, guided_signal(6, 2.0, 0.5), stripe=None),
        Family("ddad-features", 6 + 2, guided_features(6, 2.0, 0.5, 0.1), stripe=None),
    )
}


def family_scorer(name: str, *, hop_steps: int, delay_steps: int) -> FamilyScorer:
    return FamilyScorer(FAMILIES[name], UniversalImputer.load(), hop_steps=hop_steps, delay_steps=delay_steps)
