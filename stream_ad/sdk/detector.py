"""The SDK's face for notebooks: fit and score a frame, or score rows as they come, without broker or store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.detection.emission import merge_batches
from stream_ad.errors import DataError, TableError
from stream_ad.offline.fit import fit_table
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Profile, Scorer
from stream_ad.records import Alert, Outputs, ScoreBatch, SourcePosition, SourceRecord, Table
from stream_ad.sdk.estimator import OutlierEstimator
from stream_ad.sdk.frames import DETAILS, Score, score_frame, score_points
from stream_ad.sdk.options import settings_of, step_of
from stream_ad.sdk.tables import Tabular, table_of
from stream_ad.serde.encoder import encode_observation
from stream_ad.settings import Settings, Subscription
from stream_ad.timestamps import Moment, moment_ns
from stream_ad.windowing.grid import infer_step_ns
from stream_ad.wiring import build_scorer

__all__ = ["Detector"]

TOPIC = "notebook"
CHUNK = 4096
SCORER_PARAMS = ("scorer", "hop_steps", "delay_steps", "group", "threads")
Row = Mapping[str, float | None] | Sequence[float | None] | pd.Series


@dataclass(slots=True)
class _Profiles:
    """ports.ProfileStore in memory: the fitted profile is the promoted one."""

    promoted: Profile | None = None
    saved: dict[str, Profile] = field(default_factory=dict)

    def save(self, profile: Profile, *, promote: bool) -> None:
        self.saved[profile.version] = profile
        if promote:
            self.promoted = profile

    def load(self, series: str, scorer: str, version: str | None = None) -> Profile | None:
        return self.promoted if version is None else self.saved.get(version)

    def series(self, scorer: str) -> list[str]:
        return [self.promoted.series] if self.promoted else []


class Detector(OutlierEstimator):
    """Scores one series through the very pipeline a worker runs.

        scores = Detector(false_alarms="1 per day").fit(normal).score(frame)

    scorer: a name as in detector.scorer, or a Scorer. step: time between rows; from the index when absent, else 1 s.
    Other keywords are keys of the sections detector and alerts (false_alarms, memory_steps, enter, exit, ...).
    Without `fit` the first full window of a stream is learned, not scored. A DatetimeIndex gives the times (no zone =
    UTC); with any other index, and in an array, the rows follow each other `step` apart. The columns of a frame are
    found by their names.
    """

    def __init__(
        self, scorer: str | Scorer = "universal", *, step: str | None = None, series: str = "series", **options: object
    ) -> None:
        self.scorer, self.step, self.series = scorer, step, series
        self._options = options
        self._settings, self._step_ns = settings_of(scorer, options), step_of(step)
        self._built: Scorer | None = None
        self._profiles = _Profiles()
        self._columns = None
        self._stream: _Stream | None = None
        self._alerts: list[Alert] = []

    @property
    def settings(self) -> Settings:
        """What the options come to."""
        return self._settings

    @property
    def scorer_(self) -> Scorer:
        """The scorer itself, built when it is first needed."""
        if self._built is None:
            self._built = build_scorer(self._settings) if isinstance(self.scorer, str) else self.scorer
        return self._built

    @property
    def profile(self) -> Profile | None:
        """What `fit` learned."""
        return self._profiles.promoted

    @property
    def alerts(self) -> list[Alert]:
        """Those of the last `score`, or of what `update` has seen."""
        return self._alerts

    def set_params(self, **params: object) -> Self:
        """New values of what `get_params` names; the stream begins afresh. What `fit` learned is kept unless the scorer
        becomes another. OptionError: nothing was changed."""
        every = {"scorer": self.scorer, "step": self.step, "series": self.series, **self._options, **params}
        made = type(self)(**every)  # type: ignore[arg-type]
        before = self.get_params()
        if all(params.get(key, before[key]) in (before[key],) for key in SCORER_PARAMS):
            made._built, made._profiles, made._columns = self._built, self._profiles, self._columns
        vars(self).update(vars(made))
        return self

    def fit(self, X: Tabular, y: object = None) -> Self:
        """Learns from normal rows: one column a channel, NaN = no reading; y is ignored. TableError when they are too
        few, or no table of numbers."""
        table = table_of(X, self.series)
        step = self.step or (None if table.times_ns is not None else "1s")
        try:
            profile = fit_table(table, self._settings, self.scorer_, step)
        except DataError as error:
            raise TableError(f"{error.message} ({len(table)} samples)") from error
        self._profiles = _Profiles(profile)
        self._columns = X.columns if isinstance(X, pd.DataFrame) else None
        self._stream = None
        return self

    def score(self, X: Tabular, y: object = None, *, channels: bool = False) -> pd.DataFrame:
        """A row for each of X, same index: score (1 = the threshold), severity, alert_id, attribution.<channel>.

        NaN where a row has no score: before the end of the first full window when nothing was fitted.
        channels adds value., expected., lower. and upper. of each channel. `alerts` holds the alerts. y is ignored.
        Each call begins afresh; it changes nothing of what `update` has seen.
        """
        scores, self._alerts = self._score(X, channels)
        return scores

    def _scores(self, X: Tabular) -> NDArray[np.float64]:
        return self._score(X, False)[0]["score"].to_numpy(dtype=np.float64)

    def _score(self, X: Tabular, channels: bool) -> tuple[pd.DataFrame, list[Alert]]:
        fitted = self.profile.channels if self.profile else ()
        table = table_of(X, self.series, fitted, named=self._columns is not None)
        step_ns = self._step_of(table)
        times = np.arange(len(table), dtype=np.int64) * step_ns if table.times_ns is None else table.times_ns
        stream = _Stream(self.series, self._settings, self.scorer_, self._profiles, step_ns)
        outputs = stream.take(zip(times.tolist(), table.values, strict=True), table.channels)
        outputs.extend(stream.pipeline.flush())
        index = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(table))
        scores = _by_row(outputs.scores, times, step_ns, index, table.channels, channels)
        return scores, list({alert.id: alert for alert in outputs.alerts}.values())

    def update(self, observation: Row, time: Moment | None = None) -> list[Score]:
        """Takes one observation and returns the scores that are due by it, oldest first; often none.

        observation: {channel: value or None}, a Series, or the values in the order of the fitted channels. time None:
        one step after the observation before. A score comes `delay` slots after its slot, and again, with a higher
        revision, when late data change it. `alerts` grows by what the observation raised.
        """
        outputs = self._take(observation, time)
        if outputs.dead_letters:
            letter = outputs.dead_letters[0]
            raise DataError(f"observation: {letter.reason}: {letter.detail}")
        self._alerts += outputs.alerts
        return score_points(outputs.scores)

    def _take(self, observation: Row, time: Moment | None) -> Outputs:
        if self._stream is None:
            self._stream, self._alerts = self._new_stream(), []
        channels, row = self._row(observation)
        time_ns = self._stream.next_ns if time is None else moment_ns(time)
        return self._stream.take([(time_ns, row)], channels)

    def _new_stream(self) -> _Stream:
        step_ns = self._step_ns or (self.profile.step_ns if self.profile else 1_000_000_000)
        return _Stream(self.series, self._settings, self.scorer_, self._profiles, step_ns)

    def flush(self) -> list[Score]:
        """The scores that `update` still waits to tell, with what is there."""
        outputs = self._stream.pipeline.flush() if self._stream else Outputs()
        self._alerts += outputs.alerts
        return score_points(outputs.scores)

    def learn_one(self, x: Mapping[str, float | None]) -> None:
        """river's word for `update`: takes one observation, a step after the one before.

        What of it cannot be used, such as a channel that the first window did not have, is passed over as by a worker.
        """
        self._alerts += self._take(x, None).alerts

    def score_one(self, x: Mapping[str, float | None]) -> float:
        """The score x would have were it the next observation and nothing came after it; 1 = the threshold.

        Nothing is changed. 0 while there is nothing to tell: at the first observation, and for the first window where
        nothing was fitted. It looks back as far as the scorer does, which costs as much as one or two hundred `update`;
        what these tell once later readings are in is surer.
        """
        stream = (self._stream or self._new_stream()).fork()
        time_ns, (channels, row) = stream.next_ns, self._row(x)
        outputs = stream.take([(time_ns, row)], channels)
        outputs.extend(stream.pipeline.flush())
        return next((float(b.score[-1]) for b in reversed(outputs.scores) if b.event_time_ns[-1] == time_ns), 0.0)

    def _row(self, observation: Row) -> tuple[tuple[str, ...], list[float]]:
        if isinstance(observation, pd.Series):
            observation = {str(name): value for name, value in observation.items()}
        if isinstance(observation, Mapping):
            names, values = tuple(observation), list(observation.values())
        else:
            names, values = (self.profile.channels if self.profile else ()), list(observation)
            if len(names) != len(values):
                expected = f"{len(names)} values, one a fitted channel" if names else "{channel: value}"
                raise DataError(f"observation: expected {expected}, found {len(values)} values")
        return names, [float("nan") if value is None else float(value) for value in values]

    def _step_of(self, table: Table) -> int:
        inferred = None if table.times_ns is None else infer_step_ns(table.times_ns.tolist())
        fitted = self.profile.step_ns if self.profile else None
        return self._step_ns or inferred or fitted or 1_000_000_000


class _Stream:
    """A pipeline of one series and where its rows stand."""

    def __init__(self, series: str, settings: Settings, scorer: Scorer, profiles: _Profiles, step_ns: int) -> None:
        subscription = Subscription(topic=TOPIC, step=f"{step_ns}ns", time_unit="ns")
        self.pipeline = Pipeline(settings.model_copy(update={"subscription": (subscription,)}), scorer, profiles)
        self._series, self._step_ns = series, step_ns
        self._offset = 0
        self.next_ns = 0

    def fork(self) -> _Stream:
        """A stream of its own that stands where this one does; what never changes is shared."""
        pipeline = self.pipeline
        shared = (pipeline.settings, pipeline.scorer, pipeline.profiles)
        return deepcopy(self, {id(part): part for part in shared})

    def take(
        self, rows: Iterable[tuple[int, Sequence[float] | NDArray[np.float32]]], channels: Sequence[str]
    ) -> Outputs:
        outputs, records = Outputs(), []
        for time_ns, row in rows:
            value = encode_observation(self._series, time_ns, channels, row, "ns")
            records.append(SourceRecord(SourcePosition(TOPIC, 0, self._offset), time_ns, None, value))
            self._offset += 1
            self.next_ns = time_ns + self._step_ns
            if len(records) == CHUNK:
                outputs.extend(self.pipeline.process(records))
                records = []
        outputs.extend(self.pipeline.process(records))
        return outputs


def _by_row(
    batches: Sequence[ScoreBatch],
    times: NDArray[np.int64],
    step_ns: int,
    index: pd.Index,
    names: Sequence[str],
    channels: bool,
) -> pd.DataFrame:
    """The newest score of the slot that each row fell into."""
    details = DETAILS if channels else ("attribution",)
    wanted = [f"{detail}.{channel}" for channel in names for detail in details]
    newest = [merge_batches(batches)] if batches else []
    scored = score_frame(newest, channels=True).drop(columns=["revision", "model_version"])
    asked = pd.DatetimeIndex(times, tz="UTC")
    out = scored.reindex(asked, method="nearest", tolerance=pd.Timedelta(step_ns // 2, unit="ns"))
    out = out.reindex(columns=["score", "severity", "alert_id", *wanted])
    out[["severity", "alert_id"]] = out[["severity", "alert_id"]].fillna("")
    return out.set_axis(index, axis=0)
