"""The families of diffusion scores, each as a map of errors point by point behind the Scorer port.

Families as in the survey of diffusion models for anomaly detection (arXiv 2506.09368): reconstruction, density, score.
All share the network (the universal imputer), the channels, the smoothing and the head (pointwise.py), so that a
comparison is of the maps alone: benchmarks/accuracy/families.py. Conditional ones hide each reading once, by
two gratings,
and their errors are in z-scores: in units of the window's visible part a quiet window's rounding becomes an anomaly
(loss-sum .40 instead of .63, score-norm .41 instead of .66, 7 series). What came of it, mean VUS-PR of 28 series:
none is better than one pass beyond chance (imputation .506; masked losses .545, density .542, masked score norm .541,
guided reconstruction .531, 4 draws .511; features .206), all are below the default scorer's .677.
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
from stream_ad_models.research.density import log_density, random_signs
from stream_ad_models.research.guided import feature_distance, features, guided_reconstruction
from stream_ad_models.research.loss_sum import denoising_losses, log_levels, loss_sum
from stream_ad_models.research.sampler import denoiser_of, sample_targets, sigma_schedule
from stream_ad_models.research.score_norm import score_squares

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = ["FAMILIES", "Family", "FamilyScorer", "View"]

_HOP = _DELAY = 32
_MIDDLE = slice(32, 96)  # of a window of the history: what is imputed with context on both sides
_HISTORY_ROWS = 4096  # the latest: means and quantiles of a map need no more
_ROWS_PER_CALL = 128  # windows of one channel: their activations stay inside the processor's cache
_TRUTH_CLIP = 50.0  # standardised units
_LOWEST = 0.01  # a log-density has no zero of its own: this quantile of the history's parts is taken for it
_SMALLEST_STD = 0.1


@dataclass(frozen=True, slots=True)
class View:
    """Windows of single channels under one mask, all float32 [n, window, 1]. truth: standardised readings, a guess
    where there is none; hidden: 1.0 where the denoiser predicts."""

    given: Condition
    truth: Tensor
    hidden: Tensor


Map = Callable[[UniversalImputer, View], Tensor]  # -> errors [n, window, 1]; visible points are not read


@dataclass(frozen=True, slots=True)
class Family:
    """passes: network passes a window, both masks together; a backward pass counts as 1.5 (as it was timed).

    grating: width of the two masks; None = one pass with everything hidden. signed: the map may be negative.
    """

    name: str
    passes: float
    map: Map
    stripe: int | None = 1
    signed: bool = False


class FamilySession(PointwiseSession):
    """Maps of the rows so far: a row's map is kept as its window saw it with 32 rows of context after it."""

    def __init__(self, arrays: Arrays, mapped: Callable[[Float64], Float64]) -> None:
        super().__init__(arrays)
        self._mapped = mapped
        self._lowest = np.asarray(arrays["family.lowest"], np.float64)
        self._kept = np.zeros((0, self.means.shape[1]))
        self._end: int | None = None
        self.ahead: dict[int, Float64] = {}  # maps of windows to come, by their end: one network call for many

    def errors(self, z: Float64, end_slot: int) -> PointErrors:
        fresh = self.ahead.pop(end_slot, None)
        if fresh is None:
            fresh = self._mapped(z[None])[0]
        squares = np.maximum(fresh - self._lowest, 0.0)
        if self._end is not None and end_slot - self._end == _HOP:
            squares[: -2 * _HOP] = self._kept[-(WINDOW_STEPS - 2 * _HOP) :]
        self._kept, self._end = squares[: len(squares) - _HOP].copy(), end_slot
        return PointErrors([squares], np.zeros_like(z), np.ones_like(z))


class FamilyScorer(PointwiseScorer):
    """One family as a scorer: no expected values of its own, so bands are those of the history."""

    def __init__(self, family: Family, imputer: UniversalImputer) -> None:
        super().__init__(hop_steps=_HOP, delay_steps=_DELAY)
        self._family, self._imputer = family, imputer
        self.name, self.revision = family.name, f"1-{imputer.version}"

    @property
    def lookback_steps(self) -> int:
        return 2 * WINDOW_STEPS

    def learn(self, z: Float64) -> Learned:
        recent = z[-_HISTORY_ROWS:]
        width = _MIDDLE.stop - _MIDDLE.start
        starts = np.arange(0, len(recent) - WINDOW_STEPS + 1, width)
        mapped = self._map(np.stack([recent[start : start + WINDOW_STEPS] for start in starts]))
        held_out = mapped[:, _MIDDLE].reshape(-1, z.shape[1])
        lowest = np.quantile(held_out, _LOWEST, axis=0) if self._family.signed else np.zeros(z.shape[1])
        return Learned({"family.lowest": lowest}, [np.maximum(held_out - lowest, 0.0)])

    def open(self, arrays: Arrays) -> FamilySession:
        return FamilySession(arrays, self._map)

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        for session in {id(each): each for each, _ in batch}.values():
            if isinstance(session, FamilySession):
                normaliser = session.normaliser
                windows = [window for other, window in batch if other is session]
                z = np.stack([normaliser.apply(window.rows)[:, normaliser.scored] for window in windows])
                maps = self._map(z.astype(np.float64))
                session.ahead = {window.end_slot: each for window, each in zip(windows, maps, strict=True)}
        return super().score(batch)

    def _map(self, z: Float64) -> Float64:
        """z: float64 [n, window, channel], NaN = no reading (its error is 0) -> errors, the same shape."""
        rows = np.ascontiguousarray(z.transpose(0, 2, 1), dtype=np.float32).reshape(-1, WINDOW_STEPS, 1)
        parts = [
            self._map_rows(torch.from_numpy(rows[at : at + _ROWS_PER_CALL]))
            for at in range(0, len(rows), _ROWS_PER_CALL)
        ]
        errors = np.concatenate(parts).astype(np.float64).reshape(len(z), z.shape[2], WINDOW_STEPS)
        return np.where(np.isnan(z), 0.0, errors.transpose(0, 2, 1))

    def _map_rows(self, rows: Tensor) -> Float32:
        present = ~rows.isnan()
        with torch.no_grad():
            if self._family.stripe is None:
                return np.asarray(self._family.map(self._imputer, _view(rows, torch.zeros_like(present))).numpy())
            out = torch.zeros_like(rows)
            for mask in complementary_stripes(WINDOW_STEPS, self._family.stripe):
                view = _view(rows, present & torch.from_numpy(mask)[None, :, None])
                out += self._family.map(self._imputer, view) * view.hidden
            return np.asarray(out.numpy())


def _view(rows: Tensor, visible: Tensor) -> View:
    given = condition(rows.nan_to_num(), visible)
    truth = ((rows - given.centre) / given.scale).clamp(-_TRUTH_CLIP, _TRUTH_CLIP)
    return View(given, torch.where(rows.isnan(), given.guide, truth), 1 - given.mask)


def _noise(seed: int = 0) -> Tensor:
    """The same for every window and channel: windows differ by their readings alone."""
    return torch.randn((1, WINDOW_STEPS, 1), generator=torch.Generator().manual_seed(seed))


def _one_pass(imputer: UniversalImputer, view: View) -> tuple[Tensor, Tensor]:
    """Conditional mean and variance, standardised."""
    sigma = torch.tensor([imputer.model.config.sigma_max])
    mean, variance = imputer.model(torch.zeros_like(view.truth), sigma, view.given)
    return mean, variance


# ---- reconstruction


def imputation(imputer: UniversalImputer, view: View) -> Tensor:
    """Squared error of one pass's mean, in z-scores."""
    return ((view.truth - _one_pass(imputer, view)[0]) * view.given.scale).square()


def scaled_imputation(imputer: UniversalImputer, view: View) -> Tensor:
    """The same in predictive standard deviations."""
    mean, variance = _one_pass(imputer, view)
    floor = _SMALLEST_STD**2 / view.given.scale.square()
    return (view.truth - mean).square() / (variance + floor)


def sampled(draws: int, steps: int) -> Map:
    """Squared error of the median of draws by DPM-Solver++, as CSDI and ImDiffusion impute; in z-scores."""

    def errors(imputer: UniversalImputer, view: View) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        drawn = [sample_targets(imputer.model, view.given, steps, generator, "dpm++") for _ in range(draws)]
        return ((view.truth - torch.stack(drawn).median(dim=0).values) * view.given.scale).square()

    return errors


# ---- density


def density(count: int, low: float) -> Map:
    """-log p of each hidden point's part, in z-scores' units."""
    signs = random_signs((1, 1, WINDOW_STEPS, 1), torch.Generator().manual_seed(0))

    def errors(imputer: UniversalImputer, view: View) -> Tensor:
        levels = log_levels(count, low, imputer.model.config.sigma_max)
        found = log_density(denoiser_of(imputer.model, view.given), view.truth, view.hidden, levels, signs)
        return view.given.scale.log() - found

    return errors


def losses(count: int, low: float, high: float) -> Map:
    def errors(imputer: UniversalImputer, view: View) -> Tensor:
        levels = log_levels(count, low, high)
        denoise = denoiser_of(imputer.model, view.given)
        found = loss_sum(denoising_losses(denoise, view.truth, view.hidden, levels, _noise()), levels)
        return found * view.given.scale.square()

    return errors


# ---- score


def score_norm(*sigmas: float) -> Map:
    def errors(imputer: UniversalImputer, view: View) -> Tensor:
        denoise = denoiser_of(imputer.model, view.given)
        return score_squares(denoise, view.truth, view.hidden, torch.tensor(sigmas)) * view.given.scale.square()

    return errors


# ---- guided reconstruction


def _reconstructed(imputer: UniversalImputer, view: View, *, steps: int, start: float, weight: float) -> Tensor:
    levels = sigma_schedule(steps, 0.05, start)
    return guided_reconstruction(denoiser_of(imputer.model, view.given), view.truth, levels, weight, _noise())


def guided_signal(steps: int, start: float, weight: float) -> Map:
    def errors(imputer: UniversalImputer, view: View) -> Tensor:
        found = _reconstructed(imputer, view, steps=steps, start=start, weight=weight)
        return ((view.truth - found) * view.given.scale).square()

    return errors


def guided_features(steps: int, start: float, weight: float, sigma: float) -> Map:
    def errors(imputer: UniversalImputer, view: View) -> Tensor:
        found = _reconstructed(imputer, view, steps=steps, start=start, weight=weight)
        level, model = torch.tensor([sigma]), imputer.model
        own, other = (features(model, window, level, view.given) for window in (view.truth, found))
        return feature_distance(own, other, model.config.patch_steps)

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
