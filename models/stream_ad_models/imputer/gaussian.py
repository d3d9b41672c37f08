"""The imputer in closed form: for Gaussian data the optimal diffusion denoiser is linear in the noised rows.

D(x; sigma) = mu + S (S + sigma^2 I)^-1 (x - mu), and the conditional of hidden entries h given visible ones v is
Gaussian with mean mu_h + S_hv S_vv^-1 (x_v - mu_v) and covariance S_hh - S_hv S_vv^-1 S_vh: exact imputation, bands,
density and samples under any mask and at any noise level, from second moments that add up over rows (Wang & Vastola,
TMLR 2024, arXiv 2412.09726, section 3: learned scores of real diffusion models are close to this at most noise levels).

Entries of a row may be (channel, lag) pairs: then the same formulas impute from a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError

__all__ = ["GaussianConditional", "GaussianMoments"]

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

RIDGES = (1e-3, 1e-2, 1e-1)  # in units of a z-score's variance


@dataclass(frozen=True, slots=True)
class GaussianMoments:
    """Sums over rows that add and subtract: count [], total float64 [entry], outer float64 [entry, entry].

    A fold is left out, a bad period forgotten, a group's moments made a prior by plain arithmetic.
    """

    count: float
    total: Float64
    outer: Float64

    @classmethod
    def of(cls, rows: Float64) -> GaussianMoments:
        """rows: float64 [n, entry], finite. DataError for anything else."""
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise DataError(f"rows: expected finite values of shape [n, entry], found shape {list(rows.shape)}")
        return cls(float(len(rows)), rows.sum(axis=0), rows.T @ rows)

    def __add__(self, other: GaussianMoments) -> GaussianMoments:
        return GaussianMoments(self.count + other.count, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: GaussianMoments) -> GaussianMoments:
        """DataError when more would be taken away than there is."""
        if other.count >= self.count:
            raise DataError(f"moments: expected fewer than {self.count:g} rows to take away, found {other.count:g}")
        return GaussianMoments(self.count - other.count, self.total - other.total, self.outer - other.outer)

    def scaled(self, factor: float) -> GaussianMoments:
        """As if every row had counted `factor` times: forgetting for 0 < factor < 1."""
        return GaussianMoments(factor * self.count, factor * self.total, factor * self.outer)

    @property
    def mean(self) -> Float64:
        return self.total / self.count

    @property
    def covariance(self) -> Float64:
        """float64 [entry, entry], symmetric."""
        mean = self.mean
        return self.outer / self.count - np.outer(mean, mean)


@dataclass(frozen=True, slots=True)
class GaussianConditional:
    """mean: float64 [entry]; covariance: float64 [entry, entry], positive definite."""

    mean: Float64
    covariance: Float64

    @classmethod
    def fit(cls, moments: GaussianMoments, ridge: float) -> GaussianConditional:
        """ridge > 0 is added to each variance: with few rows a denoiser trained on noised rows is this estimate."""
        if not ridge > 0:
            raise DataError(f"ridge: expected a number over 0, found {ridge}")
        return cls(moments.mean, moments.covariance + ridge * np.eye(len(moments.total)))

    def denoise(self, rows: Float64, sigma: float) -> Float64:
        """D(x; sigma) of rows float64 [n, entry] that carry Gaussian noise of standard deviation sigma."""
        noised = self.covariance + sigma**2 * np.eye(len(self.mean))
        return np.asarray(self.mean + (rows - self.mean) @ np.linalg.solve(noised, self.covariance))

    def condition(self, rows: Float64, visible: Bool) -> tuple[Float64, Float64]:
        """Mean float64 [n, hidden] and covariance float64 [hidden, hidden] of the hidden entries.

        rows: float64 [n, entry], read where visible: bool [entry] is True.
        """
        gain, covariance = self._gain(visible)
        return self.mean[~visible] + (rows[:, visible] - self.mean[visible]) @ gain.T, covariance

    def impute(self, rows: Float64) -> Float64:
        """rows float64 [n, entry] with every NaN replaced by its conditional mean given the row's other entries."""
        out = rows.copy()
        missing = np.isnan(rows)
        patterns, which = np.unique(missing, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            if pattern.any():
                some = np.flatnonzero(which.reshape(-1) == number)
                out[np.ix_(some, pattern)] = self.condition(rows[some], ~pattern)[0]
        return out

    def log_density(self, rows: Float64) -> Float64:
        """float64 [n], in nats, of complete rows."""
        factor = np.linalg.cholesky(self.covariance)
        white = np.linalg.solve(factor, (rows - self.mean).T)
        constant = len(self.mean) * np.log(2 * np.pi) + 2 * np.log(np.diag(factor)).sum()
        return np.asarray(-0.5 * (constant + np.square(white).sum(axis=0)))

    def sample(self, rows: Float64, visible: Bool, rng: np.random.Generator) -> Float64:
        """rows with one joint draw of the hidden entries of each."""
        mean, covariance = self.condition(rows, visible)
        factor = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance)))
        out = rows.copy()
        out[:, ~visible] = mean + rng.standard_normal(mean.shape) @ factor.T
        return out

    def residual_weights(self, targets: Sequence[int] | NDArray[np.intp]) -> tuple[Float64, Float64]:
        """weights float64 [entry, target] and variances float64 [target]: (x - mean) @ weights is what each target lies
        off its conditional mean given ALL other entries. One inverse P gives every one: P_j x / P_jj, variance 1 /
        P_jj.
        """
        precision = np.linalg.inv(self.covariance)
        diagonal = np.diag(precision)[targets]
        return precision[:, targets] / diagonal, 1.0 / diagonal

    def _gain(self, visible: Bool) -> tuple[Float64, Float64]:
        """S_hv S_vv^-1 and the hidden entries' conditional covariance."""
        cross = self.covariance[np.ix_(~visible, visible)]
        gain = np.linalg.solve(self.covariance[np.ix_(visible, visible)], cross.T).T
        left = self.covariance[np.ix_(~visible, ~visible)] - gain @ cross.T
        return np.asarray(gain), np.asarray((left + left.T) / 2)
