"""`Detector`: fits and scores a data frame, or scores rows one by one, without a broker or a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stream_ad.errors import DataError, TableError
from stream_ad.offline.fit import fit_table
from stream_ad.offline.join import nearest_slots
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
from stream_ad.wiring import build_scorer, memory_profiles

__all__ = ["Detector"]

TOPIC = "notebook"
CHUNK = 4096
SCORER_PARAMS = ("scorer", "hop_steps", "delay_steps", "group", "threads")
Row = Mapping[str, float | None] | Sequence[float | None] | pd.Series


class Detector(OutlierEstimator):
    """Scores one series with the pipeline of a worker; works as a scikit-learn outlier detector and with river.

    `fit` learns normal behaviour; without it, the first full window of a stream is learned and not scored. Data are a
    DataFrame with one column per channel, matched by name, or an array [row, channel]; NaN = no reading. A
    DatetimeIndex gives the times (no zone = UTC); without one, rows are `step` apart.

    Parameters
    ----------
    scorer : str or Scorer, default "universal"
        A name as in the setting detector.scorer, or a scorer object.
    step : str, default None
        Time between rows, such as "1s". None = inferred from the index, else 1 s.
    series : str, default "series"
        Name of the series in scores and alerts.
    **options : object
        Keys of the settings sections detector and alerts: false_alarms, memory_steps, enter, exit, ...

    Raises
    ------
    OptionError
        An option is unknown or has a wrong value.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stream_ad import Detector
    >>> rng = np.random.default_rng(0)
    >>> index = pd.date_range("2024-01-01", periods=900, freq="1s", tz="UTC")
    >>> level = np.sin(np.arange(900) / 8) + 0.05 * rng.standard_normal(900)
    >>> frame = pd.DataFrame({"pressure": level}, index=index)
    >>> frame.iloc[800:805] += 4
    >>> detector = Detector(false_alarms="1 per day").fit(frame[:600])
    >>> scores = detector.score(frame[600:])
    >>> bool((scores["score"].iloc[200:205] > 1).all())
    True
    >>> [(alert.severity, alert.channels[0].channel) for alert in detector.alerts]
    [('critical', 'pressure')]
    """

    def __init__(
        self, scorer: str | Scorer = "universal", *, step: str | None = None, series: str = "series", **options: object
    ) -> None:
        self.scorer, self.step, self.series = scorer, step, series
        self._options = options
        self._settings, self._step_ns = settings_of(scorer, options), step_of(step)
        self._built: Scorer | None = None
        self._profile: Profile | None = None
        self._columns = None
        self._stream: _Stream | None = None
        self._alerts: list[Alert] = []

    @property
    def settings(self) -> Settings:
        """The settings that the options result in."""
        return self._settings

    @property
    def scorer_(self) -> Scorer:
        """The scorer, built on first use."""
        if self._built is None:
            self._built = build_scorer(self._settings) if isinstance(self.scorer, str) else self.scorer
        return self._built

    @property
    def profile(self) -> Profile | None:
        """The result of `fit`; None before it."""
        return self._profile

    @property
    def alerts(self) -> list[Alert]:
        """The alerts of the last `score`, or of all `update` calls."""
        return self._alerts

    def set_params(self, **params: object) -> Self:
        """Changes parameters of `get_params` and resets the stream of `update`; the fitted profile is kept unless the
        scorer changes. OptionError: nothing was changed."""
        merged = {"scorer": self.scorer, "step": self.step, "series": self.series, **self._options, **params}
        changed = type(self)(**merged)  # type: ignore[arg-type]
        before = self.get_params()
        if all(params.get(key, before[key]) in (before[key],) for key in SCORER_PARAMS):
            changed._built, changed._profile, changed._columns = self._built, self._profile, self._columns
        vars(self).update(vars(changed))
        return self

    def fit(self, X: Tabular, y: object = None) -> Self:
        """Learns the profile of the series from normal rows.

        Parameters
        ----------
        X : DataFrame or array [row, channel]
            At least one window of rows (`scorer_.window_steps`); NaN = no reading.
        y : object
            Ignored.

        Returns
        -------
        Detector
            Itself.

        Raises
        ------
        TableError
            X has too few rows, or is not a table of numbers.
        """
        table = table_of(X, self.series)
        step = self.step or (None if table.times_ns is not None else "1s")
        try:
            self._profile = fit_table(table, self._settings, self.scorer_, step)
        except DataError as error:
            raise TableError(f"{error.message} ({len(table)} samples)") from error
        self._columns = X.columns if isinstance(X, pd.DataFrame) else None
        self._stream = None
        return self

    def score(self, X: Tabular, y: object = None, *, channels: bool = False) -> pd.DataFrame:
        """Scores every row of X, and sets `alerts`. Each call is independent and leaves the stream of `update` alone.

        Parameters
        ----------
        X : DataFrame or array [row, channel]
            The fitted channels, or a subset of them; NaN = no reading.
        y : object
            Ignored.
        channels : bool, default False
            Add value.<channel>, expected.<channel>, lower. and upper.

        Returns
        -------
        DataFrame
            The index of X; score (1 = the threshold; NaN = none, as in the first window without `fit`), severity,
            alert_id, attribution.<channel>.

        Raises
        ------
        TableError
            X is not a table of numbers, or has other channels.
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
        stream = _Stream(self.series, self._settings, self.scorer_, self._profile, step_ns)
        outputs = stream.process(zip(times.tolist(), table.values, strict=True), table.channels)
        outputs.extend(stream.pipeline.flush())
        index = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(table))
        scores = _by_row(outputs.scores, times, step_ns, index, table.channels, channels)
        return scores, list({alert.id: alert for alert in outputs.alerts}.values())

    def update(self, observation: Row, time: Moment | None = None) -> list[Score]:
        """Processes one observation and appends its alerts to `alerts`.

        Parameters
        ----------
        observation : mapping, Series or sequence of float or None
            {channel: value}, or the values in the order of the fitted channels; None = no reading.
        time : Moment, default None
            Event time; None = one step after the previous observation.

        Returns
        -------
        list of Score
            The scores that became ready, oldest first; often empty. A score is ready `delay_steps` slots after its
            slot, and again with a higher revision when late data change it.

        Raises
        ------
        DataError
            The observation cannot be used.
        """
        outputs = self._process(observation, time)
        if outputs.dead_letters:
            failure = outputs.dead_letters[0]
            raise DataError(f"observation: {failure.reason}: {failure.detail}")
        self._alerts += outputs.alerts
        return score_points(outputs.scores)

    def _process(self, observation: Row, time: Moment | None) -> Outputs:
        if self._stream is None:
            self._stream, self._alerts = self._new_stream(), []
        channels, row = self._row(observation)
        time_ns = self._stream.next_ns if time is None else moment_ns(time)
        return self._stream.process([(time_ns, row)], channels)

    def _new_stream(self) -> _Stream:
        step_ns = self._step_ns or (self.profile.step_ns if self.profile else 1_000_000_000)
        return _Stream(self.series, self._settings, self.scorer_, self._profile, step_ns)

    def flush(self) -> list[Score]:
        """The scores of the slots that still wait for later data, computed without it."""
        outputs = self._stream.pipeline.flush() if self._stream else Outputs()
        self._alerts += outputs.alerts
        return score_points(outputs.scores)

    def learn_one(self, x: Mapping[str, float | None]) -> None:
        """river's name for `update`: processes one observation, one step after the previous one.

        Readings that cannot be used, such as those of a channel absent from the first window, are skipped.
        """
        self._alerts += self._process(x, None).alerts

    def score_one(self, x: Mapping[str, float | None]) -> float:
        """river's score of x as the next, and last, observation; 1 = the threshold. Changes nothing.

        0 while there is no score: at the first observation, and in the first window without `fit`. It costs as much as
        one or two hundred `update` calls, and their scores, which use later readings too, are more accurate.
        """
        stream = (self._stream or self._new_stream()).fork()
        time_ns, (channels, row) = stream.next_ns, self._row(x)
        outputs = stream.process([(time_ns, row)], channels)
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
                expected = f"{len(names)} values, one per fitted channel" if names else "{channel: value}"
                raise DataError(f"observation: expected {expected}, found {len(values)} values")
        return names, [float("nan") if value is None else float(value) for value in values]

    def _step_of(self, table: Table) -> int:
        inferred = None if table.times_ns is None else infer_step_ns(table.times_ns.tolist())
        fitted = self.profile.step_ns if self.profile else None
        return self._step_ns or inferred or fitted or 1_000_000_000


class _Stream:
    """A pipeline of one series, and the position and time of its next row."""

    def __init__(self, series: str, settings: Settings, scorer: Scorer, profile: Profile | None, step_ns: int) -> None:
        subscription = Subscription(topic=TOPIC, step=f"{step_ns}ns", time_unit="ns")
        settings = settings.model_copy(update={"subscription": (subscription,)})
        profiles = memory_profiles(profile and replace(profile, series=series))
        self.pipeline = Pipeline(settings, scorer, profiles)
        self._series, self._step_ns = series, step_ns
        self._offset = 0
        self.next_ns = 0

    def fork(self) -> _Stream:
        """An independent copy that shares the immutable parts."""
        pipeline = self.pipeline
        shared = (pipeline.settings, pipeline.scorer, pipeline.profiles)
        return deepcopy(self, {id(part): part for part in shared})

    def process(
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
    """The newest score of the slot nearest to each row."""
    details = DETAILS if channels else ("attribution",)
    newest = [ScoreBatch.merge(batches)] if batches else []
    found = nearest_slots(newest[0], times, step_ns) if newest else np.full(len(times), -1)
    scored = score_frame(newest, channels=True).reset_index(drop=True).reindex(found)
    wanted = [f"{detail}.{channel}" for channel in names for detail in details]
    out = scored.reindex(columns=["score", "severity", "alert_id", *wanted])
    out[["severity", "alert_id"]] = out[["severity", "alert_id"]].fillna("")
    return out.set_axis(index, axis=0)
