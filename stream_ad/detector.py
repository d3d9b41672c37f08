"""The SDK's face for notebooks: fit and score a frame, or score rows as they come, without broker or store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError
from stream_ad_connectors.files import Table
from stream_ad_connectors.observations import encode_observation

from stream_ad.errors import ConfigError, DataError
from stream_ad.fit import fit_table
from stream_ad.frames import DETAILS, Score, score_frame, score_points
from stream_ad.grid import infer_step_ns
from stream_ad.moments import Moment, moment_ns
from stream_ad.pipeline import Pipeline
from stream_ad.ports import Profile, Scorer
from stream_ad.records import Alert, Outputs, ScoreBatch, SourcePosition, SourceRecord
from stream_ad.settings import AlertSettings, DetectorSettings, Settings, Subscription, duration_ns
from stream_ad.telling import merge_batches
from stream_ad.wiring import build_scorer

__all__ = ["Detector"]

TOPIC = "notebook"
CHUNK = 4096
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


class Detector:
    """Scores one series through the very pipeline a worker runs.

        scores = Detector(false_alarms="1 per day").fit(normal).score(frame)

    scorer: a name as in detector.scorer, or a Scorer. step: time between rows; from the index when absent, else 1 s.
    Other keywords are keys of the sections detector and alerts (false_alarms, memory_steps, enter, exit, ...).
    Without `fit` the first full window of a stream is learned, not scored. A DatetimeIndex gives the times (no zone =
    UTC); with any other index the rows follow each other `step` apart.
    """

    def __init__(
        self, scorer: str | Scorer = "universal", *, step: str | None = None, series: str = "series", **options: object
    ) -> None:
        self.settings = _settings(scorer, options)
        self.scorer = build_scorer(self.settings) if isinstance(scorer, str) else scorer
        self._series = series
        self._step = step
        try:
            self._step_ns = None if step is None else duration_ns(step)
        except ValueError as error:
            raise ConfigError(f"step: {error}") from None
        self._profiles = _Profiles()
        self._stream: _Stream | None = None
        self.alerts: list[Alert] = []

    @property
    def profile(self) -> Profile | None:
        """What `fit` learned."""
        return self._profiles.promoted

    def fit(self, history: pd.DataFrame) -> Detector:
        """Learns from normal rows: one column a channel, NaN = no reading. DataError when they are too few."""
        table = self._table(history)
        step = self._step or (None if table.times_ns is not None else "1s")
        self._profiles = _Profiles(fit_table(table, self.settings, self.scorer, step))
        self._stream = None
        return self

    def score(self, frame: pd.DataFrame, *, channels: bool = False) -> pd.DataFrame:
        """A row for each of `frame`, same index: score (1 = the threshold), severity, alert_id, attribution.<channel>.

        NaN where a row has no score: before the end of the first full window when nothing was fitted.
        channels adds value., expected., lower. and upper. of each channel. `alerts` then holds the alerts.
        Each call begins afresh; it changes nothing of what `update` has seen.
        """
        table = self._table(frame)
        step_ns = self._step_of(table)
        times = np.arange(len(table), dtype=np.int64) * step_ns if table.times_ns is None else table.times_ns
        stream = _Stream(self._series, self.settings, self.scorer, self._profiles, step_ns)
        outputs = stream.take(zip(times.tolist(), table.values, strict=True), table.channels)
        outputs.extend(stream.pipeline.flush())
        self.alerts = list({alert.id: alert for alert in outputs.alerts}.values())
        return _by_row(outputs.scores, times, step_ns, frame, channels)

    def update(self, observation: Row, time: Moment | None = None) -> list[Score]:
        """Takes one observation and returns the scores that are due by it, oldest first; often none.

        observation: {channel: value or None}, a Series, or the values in the order of the fitted channels. time None:
        one step after the observation before. A score comes `delay` slots after its slot, and again, with a higher
        revision, when late data change it. `alerts` grows by what the observation raised.
        """
        stream = self._stream
        if stream is None:
            step_ns = self._step_ns or (self.profile.step_ns if self.profile else 1_000_000_000)
            stream = _Stream(self._series, self.settings, self.scorer, self._profiles, step_ns)
            self._stream, self.alerts = stream, []
        channels, row = self._row(observation)
        time_ns = stream.next_ns if time is None else moment_ns(time)
        outputs = stream.take([(time_ns, row)], channels)
        if outputs.dead_letters:
            letter = outputs.dead_letters[0]
            raise DataError(f"observation: {letter.reason}: {letter.detail}")
        self.alerts += outputs.alerts
        return score_points(outputs.scores)

    def flush(self) -> list[Score]:
        """The scores that `update` still waits to tell, with what is there."""
        outputs = self._stream.pipeline.flush() if self._stream else Outputs()
        self.alerts += outputs.alerts
        return score_points(outputs.scores)

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

    def _table(self, frame: pd.DataFrame) -> Table:
        """DataError when it is no frame of numbers."""
        if not isinstance(frame, pd.DataFrame) or not len(frame.columns) or not len(frame):
            raise DataError(f"expected a DataFrame with rows and a column per channel, found {_described(frame)}")
        times = None
        if isinstance(frame.index, pd.DatetimeIndex):
            index = frame.index.tz_localize("UTC") if frame.index.tz is None else frame.index
            if index.hasnans:
                raise DataError("expected a time for every row, found NaT in the index")
            times = np.asarray(index.as_unit("ns").asi8, dtype=np.int64)
        try:
            values = frame.to_numpy(dtype=np.float32, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise DataError(f"expected columns of numbers: {error}") from None
        return Table(self._series, tuple(map(str, frame.columns)), times, values, None)


class _Stream:
    """A pipeline of one series and where its rows stand."""

    def __init__(self, series: str, settings: Settings, scorer: Scorer, profiles: _Profiles, step_ns: int) -> None:
        subscription = Subscription(topic=TOPIC, step=f"{step_ns}ns", time_unit="ns")
        self.pipeline = Pipeline(settings.model_copy(update={"subscription": (subscription,)}), scorer, profiles)
        self._series, self._step_ns = series, step_ns
        self._offset = 0
        self.next_ns = 0

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


def _settings(scorer: str | Scorer, options: Mapping[str, object]) -> Settings:
    """The sections detector and alerts from keywords. ConfigError names a keyword that neither has."""
    sections: dict[str, dict[str, object]] = {"detector": {}, "alerts": {}}
    if isinstance(scorer, str):
        sections["detector"]["scorer"] = scorer
    for key, value in options.items():
        if key in DetectorSettings.model_fields:
            sections["detector"][key] = value
        elif key in AlertSettings.model_fields:
            sections["alerts"][key] = value
        else:
            known = sorted({*DetectorSettings.model_fields, *AlertSettings.model_fields, "step", "series"})
            raise ConfigError(f"Detector has no option {key!r}", mend=f"expected one of {', '.join(known)}")
    try:
        return Settings().model_copy(
            update={
                "detector": DetectorSettings.model_validate(sections["detector"]),
                "alerts": AlertSettings.model_validate(sections["alerts"]),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {what}, found {first['input']!r}") from None


def _by_row(
    batches: Sequence[ScoreBatch], times: NDArray[np.int64], step_ns: int, frame: pd.DataFrame, channels: bool
) -> pd.DataFrame:
    """The newest score of the slot that each row fell into."""
    details = DETAILS if channels else ("attribution",)
    wanted = [f"{detail}.{channel}" for channel in map(str, frame.columns) for detail in details]
    newest = [merge_batches(batches)] if batches else []
    scored = score_frame(newest, channels=True).drop(columns=["revision", "model_version"])
    asked = pd.DatetimeIndex(times, tz="UTC")
    out = scored.reindex(asked, method="nearest", tolerance=pd.Timedelta(step_ns // 2, unit="ns"))
    out = out.reindex(columns=["score", "severity", "alert_id", *wanted])
    out[["severity", "alert_id"]] = out[["severity", "alert_id"]].fillna("")
    return out.set_axis(frame.index, axis=0)


def _described(frame: object) -> str:
    return f"shape {frame.shape}" if isinstance(frame, pd.DataFrame) else type(frame).__name__
