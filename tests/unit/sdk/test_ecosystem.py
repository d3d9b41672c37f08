"""Detector with scikit-learn and river, arrays, and the examples of docs/ecosystem.md."""

from __future__ import annotations

import json
import pickle
import random
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from river import evaluate, metrics
from river.base import AnomalyDetector
from river.checks import common
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from stream_ad import Detector, score_array
from stream_ad.errors import DataError, OptionError, TableError
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import DetectorSettings, Subscription
from tests.support.fakes import LevelScorer

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "ecosystem.md").read_text(encoding="utf-8")
EXPECTED_TO_FAIL = {
    "check_do_not_raise_errors_in_init_or_set_params": "a wrong option is refused where it is written, not at fit",
    "check_pipeline_consistency": "subtracts what two calls of `score` give; ours is a table",
    "check_methods_sample_order_invariance": "the order of rows is time",
    "check_methods_subset_invariance": "a row is scored by the rows around it",
}
SMALL = LevelScorer(window_steps=8, lookback_steps=20)  # the checks fit 10 rows
AT_ONCE = LevelScorer(hop_steps=1, delay_steps=0)


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)


def records(values: np.ndarray) -> list[dict[str, float]]:
    return pd.DataFrame(values, columns=["x0", "x1"]).to_dict("records")


class RiverDetector(Detector, AnomalyDetector):
    """river's evaluation and its checks ask for its base class."""


# ---- scikit-learn


@pytest.mark.filterwarnings(
    "ignore:.*does not inherit from `sklearn.base.BaseEstimator`:UserWarning",
    "ignore:OptionError occurred during set_params:UserWarning",
)
def test_the_checks_of_scikit_learn() -> None:
    results = check_estimator(Detector(SMALL), expected_failed_checks=EXPECTED_TO_FAIL, on_skip=None, on_fail=None)
    by_status: dict[str, list[str]] = {}
    for one in results:
        by_status.setdefault(one["status"], []).append(one["check_name"])
    assert by_status.get("failed", []) == []
    assert set(by_status["xfail"]) == set(EXPECTED_TO_FAIL), "listed and passed: take it from the list"
    assert len(by_status["passed"]) >= 35


def test_names_and_signs() -> None:
    test = rows(120, seed=1)
    test[60:66] += 20
    found = Detector(LevelScorer()).fit(rows(100))
    score = found.score(test)["score"].to_numpy()
    np.testing.assert_allclose(found.score_samples(test), -score)
    np.testing.assert_allclose(found.decision_function(test), 1 - score)
    np.testing.assert_allclose(found.score_samples(test) - found.offset_, found.decision_function(test))
    assert (found.predict(test) == np.where(score > 1, -1, 1)).all()
    assert (found.predict(test)[60:66] == -1).all()
    assert (found.fit_predict(test) == found.predict(test)).all()
    assert is_outlier_detector(found)


def test_parameters() -> None:
    given = Detector(SMALL, step="1min", enter=1.5)
    assert repr(Detector()) == "Detector()"
    assert repr(given) == f"Detector(scorer={SMALL!r}, step='1min', enter=1.5)"
    params = given.get_params()
    assert {"scorer", "step", "series", "false_alarms", "hop_steps", "exit"} <= set(params)
    assert (params["enter"], params["exit"]) == (1.5, 0.8)
    assert clone(given).get_params() == params
    assert Detector().get_params()["scorer"] == "universal", "and the model is not loaded for it"
    with pytest.raises(OptionError, match="no option 'contamination'"):
        given.set_params(contamination=0.1)
    with pytest.raises(ValueError, match="enter"):
        given.set_params(exit=0.5, enter=-1)
    assert given.get_params() == params


def test_a_new_parameter_keeps_what_was_learned_unless_the_scorer_changes() -> None:
    found = Detector(SMALL).fit(rows(50))
    profile = found.profile
    assert found.set_params(false_alarms="1 per minute", enter=2.0) is found
    assert found.profile is profile
    assert found.settings.alerts.enter == 2.0
    assert np.isfinite(found.decision_function(rows(40))).all()
    assert found.set_params(scorer=AT_ONCE).profile is None
    with pytest.raises(NotFittedError):
        found.predict(rows(40))


def test_frames_and_arrays() -> None:
    values, test = rows(60), rows(40, seed=1)
    frame, test_frame = (pd.DataFrame(part, columns=["a", "b"]) for part in (values, test))
    by_name, by_place = Detector(SMALL).fit(frame), Detector(SMALL).fit(values)
    expected = by_name.score_samples(test_frame)
    assert list(by_name.feature_names_in_) == ["a", "b"]
    assert not hasattr(by_place, "feature_names_in_")
    assert (by_name.n_features_in_, by_place.n_features_in_) == (2, 2)
    np.testing.assert_allclose(by_name.score_samples(test_frame[["b", "a"]]), expected, rtol=1e-6)
    for found, X in ((by_name, test), (by_place, test_frame), (by_place, test.tolist())):
        np.testing.assert_allclose(found.score_samples(X), expected, rtol=1e-6)
    assert np.isfinite(by_name.score_samples(test_frame[["a"]])).all(), "a channel without readings"
    assert list(by_place.score(test)) == ["score", "severity", "alert_id", "attribution.x0", "attribution.x1"]
    with pytest.raises(TableError, match="'c' too"):
        by_name.score(test_frame.assign(c=1.0))


def test_infinity_is_no_reading() -> None:
    with_nan, with_inf = rows(60).astype(float), rows(60).astype(float)
    with_nan[[5, 30], 0], with_inf[5, 0], with_inf[30, 0] = np.nan, np.inf, 1e300
    scores = [Detector(SMALL).fit(values).score_samples(values) for values in (with_nan, with_inf)]
    np.testing.assert_array_equal(*scores)


def test_a_table_error_is_a_data_value_and_type_error() -> None:
    for kind in (DataError, ValueError, TypeError):
        with pytest.raises(kind, match="expected at least 8 slots, found 5"):
            Detector(SMALL).fit(rows(5))


# ---- river


def test_score_one_equals_the_later_score() -> None:
    values = rows(90, seed=1)
    values[50:53] += 9
    found = Detector(AT_ONCE).fit(rows(100))
    results = []
    for x in records(values):
        results.append(found.score_one(x))
        assert found.score_one(x) == results[-1], "nothing is changed"
        assert found.learn_one(x) is None
    expected = found.score(values)["score"].to_numpy()
    assert results[0] == 0.0, "one reading is no stream yet"
    np.testing.assert_allclose(results[1:], expected[1:], rtol=1e-5)
    assert [alert.id for alert in found.alerts] != []


def test_without_fit_a_stream_is_scored_once_it_is_learned() -> None:
    found = Detector(AT_ONCE)
    results = []
    for x in records(rows(60)):
        results.append(found.score_one(x))
        found.learn_one(x)
    assert results[: AT_ONCE.window_steps] == [0.0] * AT_ONCE.window_steps
    assert all(score > 0 for score in results[AT_ONCE.window_steps + 2 :])


def test_rivers_evaluation_runs() -> None:
    values = rows(80, seed=1)
    values[50:55] += 9
    labelled = [(x, 50 <= i < 55) for i, x in enumerate(records(values))]
    online = RiverDetector(AT_ONCE).fit(rows(100))
    assert evaluate.progressive_val_score(labelled, online, metrics.RollingROCAUC()).get() > 0.95


@pytest.mark.parametrize(
    "name",
    [
        "check_repr",
        "check_str",
        "check_tags",
        "check_clone_same_class",
        "check_clone_is_idempotent",
        "check_init_has_default_params_for_tests",
        "check_init_default_params_are_not_mutable",
        "check_doc",
        "check_clone_with_new_params_applies",
        "check_pickling_supports_roundtrip",
    ],
)
def test_the_checks_of_river(name: str) -> None:
    getattr(common, name)(RiverDetector(SMALL, enter=1.5))


@pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning")  # LevelScorer, of a channel without readings
@pytest.mark.parametrize(
    "name",
    [
        "check_learn_one",
        "check_pickling",
        "check_shuffle_features_no_impact",
        "check_emerging_features",
        "check_disappearing_features",
        "check_radically_disappearing_features",
        "check_predict_one_pure",
        "check_predict_one_before_any_learn",
        "check_no_state_aliasing_with_input",
        "check_clone_is_independent",
    ],
)
def test_the_checks_of_river_on_a_stream(name: str) -> None:
    random.seed(0)  # what the checks draw
    values = np.random.default_rng(0).normal(size=(60, 5))
    stream = [({f"f{i}": float(v) for i, v in enumerate(row)}, False) for row in values]
    getattr(common, name)(RiverDetector(SMALL), stream)


def test_a_stream_is_pickled_where_it_stands() -> None:
    found = Detector(LevelScorer()).fit(rows(100))
    values = records(rows(50, seed=1))
    for x in values[:30]:
        found.learn_one(x)
    again = pickle.loads(pickle.dumps(found))
    for x in values[30:]:
        assert again.update(x) == found.update(x)
    assert again.flush() == found.flush()


# ---- arrays


def test_score_array() -> None:
    values = rows(100)
    values[70:73] += 20
    scores = score_array(values, train=60, scorer=LevelScorer())
    assert (scores.shape, scores.dtype) == ((100,), np.float64)
    expected = Detector(LevelScorer()).fit(values[:60]).score(values)["score"]
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(score_array(values, values[:60], scorer=LevelScorer()), scores)
    assert 70 <= scores.argmax() < 73


def test_score_array_without_train_gives_0_to_the_first_window() -> None:
    values = rows(100)[:, 0]
    scores = score_array(values, scorer=LevelScorer())
    assert np.isfinite(scores).all()
    assert (scores[:16] == 0).all()
    assert (scores[20:] > 0).all()
    with pytest.raises(TableError, match="first window of 16, found 10"):
        score_array(values[:10], scorer=LevelScorer())


# ---- docs/ecosystem.md


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)


def test_the_documented_code_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {"__name__": "ecosystem"}
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"docs/ecosystem.md, block {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "2026-01-01 00:41:" in printed, "the fault begins at second 2500"
    assert float(re.findall(r"RollingROCAUC: ([\d.]+)%", printed)[0]) > 90
    first, second, unscored = map(int, printed.splitlines()[-1].split())
    assert 2500 <= first < 2530
    assert 2500 <= second < 2530
    assert unscored == 128


def test_what_telegraf_would_write_is_read() -> None:
    """The record as the documentation of Telegraf's JSON serializer shows it, in the units of the config."""
    telegraf, ours = map(tomllib.loads, blocks("toml"))
    (output,), (subscription,) = telegraf["outputs"]["kafka"], ours["subscription"]
    assert output["data_format"] == "json"
    assert output["brokers"] == [ours["kafka"]["bootstrap"]]
    assert output["topic"] == subscription["topic"]
    assert output["json_timestamp_units"] == "1" + subscription["time_unit"]
    assert telegraf["agent"]["interval"] == subscription["step"]
    record = {
        "fields": {"usage_idle": 97.2, "usage_user": 1.5},
        "name": "cpu",
        "tags": {"cpu": "cpu-total", output["routing_tag"]: "a"},
        "timestamp": 1_767_225_600,
    }
    decoder = Decoder(Subscription(**subscription), DetectorSettings())
    position = SourcePosition(output["topic"], 0, 0)
    (read,), dead = decoder.decode(SourceRecord(position, 0, b"a", json.dumps(record).encode()))
    assert dead == []
    assert (read.series, read.event_time_ns) == ("cpu,cpu=cpu-total,host=a", 1_767_225_600 * 10**9)
    assert dict(read.values) == record["fields"]
