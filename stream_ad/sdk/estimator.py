"""The interface of scikit-learn outlier detectors, over a score that is 1 at its threshold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.ports import Profile, Scorer
from stream_ad.sdk.options import OPTIONS
from stream_ad.sdk.tables import Tabular

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["OutlierEstimator"]


class OutlierEstimator(ABC):
    """scikit-learn's names and signs: the lower, the more abnormal; below 0 an outlier.

    Predictions require `fit`. scikit-learn itself is imported only for its types.
    """

    scorer: str | Scorer
    step: str | None
    series: str
    _options: dict[str, object]
    _columns: pd.Index | None  # of the frame that was fitted

    @property
    @abstractmethod
    def profile(self) -> Profile | None: ...

    @abstractmethod
    def fit(self, X: Tabular, y: object = None) -> Self: ...

    @abstractmethod
    def set_params(self, **params: object) -> Self: ...

    @abstractmethod
    def _scores(self, X: Tabular) -> NDArray[np.float64]:
        """One score per row, 1 = the threshold; changes nothing."""

    # ---- parameters

    @property
    def options(self) -> dict[str, object]:
        """The keywords given in addition to scorer, step and series."""
        return dict(self._options)

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Every parameter, as given or its default. deep: ignored, no parameter has nested parameters."""
        return {"scorer": self.scorer, "step": self.step, "series": self.series, **OPTIONS, **self._options}

    def __repr__(self) -> str:
        given = {"scorer": self.scorer, "step": self.step, "series": self.series}
        defaults = {"scorer": "universal", "step": None, "series": "series"}
        shown = {key: value for key, value in given.items() if value is not defaults[key] and value != defaults[key]}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in {**shown, **self._options}.items())})"

    # ---- scores

    @property
    def offset_(self) -> float:
        """The value of `score_samples` at the threshold."""
        return -1.0

    def score_samples(self, X: Tabular) -> NDArray[np.float64]:
        """float64 [row]: the negated score: the lower, the more abnormal; -1 at the threshold.

        NaN where a row has no score: it arrived too late for its slot (`revise_steps`).
        """
        self._check_fitted()
        return -self._scores(X)

    def decision_function(self, X: Tabular) -> NDArray[np.float64]:
        """float64 [row]: 1 - score, so below 0 over the threshold."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Tabular) -> NDArray[np.int64]:
        """int64 [row]: -1 over the threshold, else 1, also where a row has no score."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X: Tabular, y: object = None) -> NDArray[np.int64]:
        """`fit` and `predict` of the same rows: the most abnormal few are outliers."""
        return self.fit(X).predict(X)

    # ---- attributes that scikit-learn reads

    @property
    def n_features_in_(self) -> int:
        return len(self._fitted().channels)

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Column names of the fitted frame; AttributeError after an array."""
        if self._columns is None or not all(isinstance(name, str) for name in self._columns):
            raise AttributeError("feature_names_in_: the fitted columns have no names")
        return self._columns.to_numpy(dtype=object)

    def _fitted(self) -> Profile:
        if self.profile is None:
            raise AttributeError("not fitted yet")
        return self.profile

    def _check_fitted(self) -> None:
        if self.profile is None:
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first, or score")

    def __sklearn_is_fitted__(self) -> bool:
        return self.profile is not None

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            "outlier_detector", TargetTags(required=False), None, None, None, input_tags=InputTags(allow_nan=True)
        )
