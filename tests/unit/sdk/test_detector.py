"""`Detector`: the same scores by frame and by row, with any index."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stream_ad import Detector
from stream_ad.errors import ConfigError, DataError
from tests.reference import pipeline as naive
from tests.support.fakes import LevelScorer

START = pd.Timestamp("2024-01-01", tz="UTC")


def frame(rows: int, seed: int = 0, freq: str | None = None) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    index = pd.date_range(START, periods=rows, freq=freq) if freq else None
    return pd.DataFrame(values, columns=["a", "b"], index=index)


def detector(**options: object) -> Detector:
    return Detector(LevelScorer(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("freq", [None, "1s", "5min", "20ms"])
def test_fit_and_score(freq: str | None) -> None:
    history, test = frame(100, freq=freq), frame(120, seed=1, freq=freq)
    test.iloc[60:66] += 20
    found = detector().fit(history)
    scores = found.score(test)
    assert scores.index.equals(test.index)
    assert list(scores) == ["score", "severity", "alert_id", "attribution.a", "attribution.b"]
    assert scores["score"].notna().all()
    assert scores["score"].iloc[60:66].min() > 5 * scores["score"].median()
    np.testing.assert_allclose(scores[["attribution.a", "attribution.b"]].sum(axis=1), 1, atol=1e-5)
    if freq is None:
        expected = naive.scores(test.to_numpy(), found.scorer, found.profile, 4096)
        threshold = naive.threshold_of(history.to_numpy(), 0, found.scorer, None)
        np.testing.assert_allclose(scores["score"], [expected[i] / threshold for i in range(120)], rtol=1e-5)


def test_alerts_and_options() -> None:
    test = frame(120, seed=1)
    test.iloc[60:66] += 50
    found = detector(enter=1.0, exit=0.5, cooldown_steps=4, false_alarms="1 per day").fit(frame(100))
    scores = found.score(test)
    assert found.settings.alerts.cooldown_steps == 4
    assert found.settings.detector.false_alarms == "1 per day"
    ids = {alert.id for alert in found.alerts}
    assert ids
    assert set(scores["alert_id"]) - {""} == ids
    assert (scores.loc[scores["severity"] == "critical", "score"] >= 2).all()
    assert {"value.a", "expected.a", "lower.b", "upper.b"} <= set(found.score(test, channels=True))


def test_update_and_score_agree() -> None:
    test = frame(90, seed=2)
    found = detector().fit(frame(100))
    updates = [score for row in test.to_dict("records") for score in found.update(row)] + found.flush()
    assert [score.time.value // 10**9 for score in updates] == list(range(90))
    np.testing.assert_allclose([score.score for score in updates], found.score(test)["score"], rtol=1e-5)
    assert set(updates[0].attribution) == {"a", "b"}
    assert updates[0].value["a"] == pytest.approx(test.iloc[0, 0])


def test_update_takes_rows_series_and_times() -> None:
    found = detector().fit(frame(100, freq="1min"))
    found.update([1.0, None], START)
    found.update(pd.Series({"a": 1.0, "b": 2.0}))
    found.update({"a": 1.0}, "2024-01-01T00:02:00Z")
    times = [score.time for score in found.flush()]
    assert times == [START + pd.Timedelta(minutes=i) for i in range(3)]
    with pytest.raises(DataError, match="expected 2 values"):
        found.update([1.0])
    with pytest.raises(DataError, match="unknown_channel"):
        found.update({"other": 1.0})


def test_without_fit_it_learns_first() -> None:
    scores = detector().score(frame(80))
    assert scores["score"].isna().tolist()[:16] == [True] * 16
    assert scores["score"].notna().any()
    fresh = detector()
    assert fresh.profile is None
    with pytest.raises(DataError, match=r"\{channel: value\}"):
        fresh.update([1.0, 2.0])


def test_gaps_and_missing_readings() -> None:
    test = frame(80, seed=3, freq="1s")
    test.iloc[40] = np.nan
    test = test.drop(test.index[50:55])
    scores = detector().fit(frame(100, freq="1s")).score(test)
    assert scores.index.equals(test.index)
    assert scores["score"].notna().all(), "a row without any reading has a score"


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (pd.DataFrame(), "DataFrame with rows"),
        ([1, 2], "found list"),
        (pd.DataFrame({"a": ["x"]}), "columns of numbers"),
        (frame(5), "expected at least 16 slots, found 5"),
    ],
)
def test_refused_history(wrong: pd.DataFrame, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        detector().fit(wrong)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"nonsense": 1}, "no option 'nonsense'"),
        ({"false_alarms": "never"}, "false_alarms: expected a rate"),
        ({"step": "soon"}, "step: expected a duration"),
    ],
)
def test_refused_options(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        detector(**options)
