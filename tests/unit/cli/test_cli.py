"""The command line for users: exit codes, one line per error, plain JSON, and files that load again."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad import cli, wiring
from stream_ad.cli import app
from stream_ad.errors import UnavailableError
from stream_ad.records import AlertState, Outputs, SeriesStatus
from stream_ad.settings import load_settings
from stream_ad.settings.template import render_config
from tests.support.fakes import LevelScorer
from tests.support.sink_samples import SinkPromises, alert, batch

SECOND = 1_000_000_000
OLD_NS = 1_700_000_000 * SECOND


@dataclass
class CliResult:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of an error; nothing else may be on stderr."""
        assert re.fullmatch(r"error: [^\n]+\n", self.err), self.err
        return self.err.removeprefix("error: ").strip()


Cli = Callable[..., CliResult]


@pytest.fixture(name="run")
def fixture_run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command line in this process, in a separate directory, without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for name in [name for name in os.environ if name.startswith("STREAM_AD__")]:
        monkeypatch.delenv(name)

    def run(*args: object) -> CliResult:
        code = cli.run([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return CliResult(code, out, err)

    return run


@pytest.fixture
def light_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "build_scorer", lambda settings: LevelScorer())


@pytest.fixture
def store(run: Cli, tmp_path: Path) -> None:
    """An embedded store with two series, the older one years ago, and their alerts."""
    held = SqliteStore(tmp_path / ".stream_ad" / "store.db")
    now = time.time_ns() // SECOND * SECOND
    names = SinkPromises(prefix="")
    old = batch("old", [OLD_NS + i * SECOND for i in range(5)], alert_id="x")
    new = batch("new", [now - (5 - i) * SECOND for i in range(5)], missing=True, seed=1)
    status = SeriesStatus("old", "scoring", ("a", "b"), SECOND, 5, 0, 5, 9, "fit-5", OLD_NS, OLD_NS + 4 * SECOND, 1)
    held.write(Outputs(scores=[old, new], alerts=[alert(names, "1", "old", AlertState.OPEN)], statuses=[status]))
    held.close()


# ---- the frame


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, stream_ad.cli\n"
        "try:\n stream_ad.cli.run(['--help'])\n"
        "finally:\n heavy = {'torch', 'pandas', 'faust', 'kafka', 'pydantic', 'numpy'} & set(sys.modules)\n"
        " assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    verbs = {"init", "check", "demo", "worker", "fit", "train", "backtest", "replay", "scores", "alerts", "dlq"}
    assert verbs | {"status"} <= set(re.findall(r"^│ (\w+) ", result.stdout, re.MULTILINE))


def test_version(run: Cli) -> None:
    result = run("--version")
    assert result.code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", result.out)


def test_every_command_has_help(run: Cli) -> None:
    for command in app.app.registered_commands:
        result = run(command.name, "--help")
        assert (result.code, result.err) == (0, "")
    for group in app.app.registered_groups:
        for command in ("list", "show", "replay"):
            assert run(group.name, command, "--help").code == 0


@pytest.mark.parametrize("args", [["nonsense"], ["scores"], ["fit", "x", "--rows", "many"], ["backtest"]])
def test_usage_errors(run: Cli, args: list[str]) -> None:
    result = run(*args)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err


def test_unexpected_errors_are_one_line_and_debug_prints_the_traceback(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(wiring, "open_store", broken)
    result = run("status")
    assert result.code == 1
    assert result.error.startswith("ZeroDivisionError: by zero — this was not expected; --debug")
    result = run("status", "--debug")
    assert result.code == 1
    assert "Traceback" in result.err
    assert result.err.endswith("error: ZeroDivisionError: by zero\n")


def test_interrupt_is_quiet(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wiring, "open_store", interrupted)
    assert run("status") == CliResult(130, "", "")


def test_expected_errors_show_their_hint(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(settings: object) -> None:
        raise UnavailableError("store down", hint="start it")

    monkeypatch.setattr(wiring, "open_store", gone)
    result = run("status")
    assert (result.code, result.error) == (1, "store down — start it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[kafka\n", "is not TOML"),
        ("[kafka]\nbootstra = 'x'\n", "kafka.bootstra: unknown key"),
        ("[detector]\nfalse_alarms = 'never'\n", "expected a rate"),
        ("[influxdb]\ntoken = 'secret'\n", "holds influxdb.token"),
        ("[serve]\nport = 'http'\n", "serve.port"),
    ],
)
def test_broken_config(run: Cli, tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    result = run("-c", path, "status")
    assert result.code == 2
    assert result.out == ""
    assert expected in result.error
    assert "secret" not in result.error


def test_config_may_follow_the_command(run: Cli, tmp_path: Path) -> None:
    for args in (["status", "-c", "missing.toml"], ["--config=missing.toml", "status"]):
        result = run(*args)
        assert (result.code, "missing.toml cannot be read" in result.error) == (2, True)


def test_unknown_scorer(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("a\n" + "1\n" * 200)
    (tmp_path / "stream-ad.toml").write_text("[detector]\nscorer = 'magic'\n")
    result = run("fit", "history.csv")
    assert result.code == 2
    assert "expected one of" in result.error
    assert "'magic'" in result.error


# ---- init


def test_init_writes_a_file_that_loads(run: Cli, tmp_path: Path) -> None:
    result = run(
        "init", "--kafka", "broker:9092", "--influxdb", "http://store:8086", "--org", "o", "--bucket", "b",
        "--topic", "one", "--topic", "two", "--step", "250ms", "--path", "sub/k.toml",
    )  # fmt: skip
    assert result.code == 0
    assert "STREAM_AD__INFLUXDB__TOKEN" in result.err
    settings = load_settings(tmp_path / "sub" / "k.toml")
    assert settings.kafka.bootstrap == "broker:9092"
    assert (settings.influxdb.url, settings.influxdb.org, settings.influxdb.bucket) == ("http://store:8086", "o", "b")
    assert [(s.topic, s.step) for s in settings.subscription] == [("one", "250ms"), ("two", "250ms")]


def test_init_embedded_default_and_no_overwriting(run: Cli, tmp_path: Path) -> None:
    assert run("init").code == 0
    path = tmp_path / "stream-ad.toml"
    assert load_settings(path) == load_settings(None)
    path.write_text("# mine\n")
    result = run("init")
    assert (result.code, "--force" in result.error, path.read_text()) == (2, True, "# mine\n")
    assert run("init", "--force").code == 0
    assert path.read_text() != "# mine\n"


@pytest.mark.parametrize(
    "args", [["--kafka", "b:1"], ["--topic", "t"], ["--influxdb", "http://x"], ["--step", "1s"], ["--org", "o"]]
)
def test_init_names_missing_options(run: Cli, tmp_path: Path, args: list[str]) -> None:
    result = run("init", *args)
    assert result.code == 2
    assert "--" in result.error
    assert not list(tmp_path.iterdir())


def test_init_bad_step(run: Cli) -> None:
    result = run("init", "--kafka", "b:1", "--topic", "t", "--step", "soon")
    assert (result.code, "expected a duration" in result.error) == (2, True)


def test_every_commented_key_is_valid(tmp_path: Path) -> None:
    """With the comment signs removed, the file loads and holds every setting."""
    text = render_config({}, [])
    lines = [re.sub(r"^# (\w+ = |\[\[)", r"\1", line) for line in text.splitlines()]
    path = tmp_path / "all.toml"
    whole = "\n".join(lines)
    # keys of a secured connection, or of a schema, are refused together with others
    for plain, other in {'"PLAINTEXT"': '"SASL_SSL"', '"http://': '"https://', '"json"': '"protobuf"'}.items():
        whole = whole.replace(plain, other)
    path.write_text(whole)
    loaded = load_settings(path)
    written = tomllib.loads(path.read_text())
    for section, model in loaded:
        shown = written[section][0] if section == "subscription" else written[section]
        fields = type(model[0] if section == "subscription" else model).model_fields
        assert set(shown) == set(fields) - {"token", "tokens", "urls", "sasl_password", "ssl_key_password"}, section


# ---- check


def test_check_embedded(run: Cli, light_scorer: None) -> None:
    result = run("check", "--json")
    assert result.code == 0
    assert all(finding["ok"] for finding in result.json)
    assert {finding["name"] for finding in result.json} >= {"config", "input", "store"}
    assert not Path(".stream_ad").exists(), "a dry run creates nothing"


def test_check_broken_config(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "stream-ad.toml").write_text("nonsense")
    result = run("check", "--json")
    assert result.code == 2
    assert [(f["name"], f["ok"]) for f in result.json] == [("config", False)]
    result = run("check")
    assert (result.code, result.err) == (2, "")
    assert result.out.startswith("WRONG  config: ")


# ---- fit, backtest


def csv(path: Path, rows: int, seed: int = 0, label: bool = False) -> Path:
    values = np.random.default_rng(seed).normal(size=(rows, 2))
    frame = pd.DataFrame(values, columns=["a", "b"])
    if label:
        frame["label"] = (np.arange(rows) > rows - 10).astype(np.int8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return path


@pytest.mark.usefixtures("light_scorer")
def test_fit(run: Cli, tmp_path: Path) -> None:
    files = [csv(tmp_path / f"{name}.csv", 100) for name in ("one", "two")]
    result = run("fit", *files, "--rows", 64, "--json")
    assert result.code == 0
    assert [(row["series"], row["slots"], row["channels"]) for row in result.json] == [("one", 64, 2), ("two", 64, 2)]
    assert "1/2 one" in result.err
    assert run("fit", *files, "--series", "s").code == 2
    result = run("fit", files[0], "--series", "s")
    assert result.code == 0
    assert "fit-100-" in result.out


@pytest.mark.usefixtures("light_scorer")
def test_fit_refuses(run: Cli, tmp_path: Path) -> None:
    result = run("fit", "nowhere.csv")
    assert (result.code, "nowhere.csv" in result.error) == (1, True)
    short = csv(tmp_path / "short.csv", 5)
    result = run("fit", short)
    assert (result.code, "expected at least 16 slots, found 5" in result.error) == (1, True)
    assert run("fit", short, "--step", "soon").code == 2


@pytest.mark.usefixtures("light_scorer")
def test_backtest(run: Cli, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name, label in (("good", True), ("bare", False)):
        csv(data / "D" / f"{name}.train.parquet", 100)
        csv(data / "D" / f"{name}.test.parquet", 80, seed=1, label=label)
    csv(data / "E" / "bad.train.parquet", 3)
    csv(data / "E" / "bad.test.parquet", 50)
    result = run("backtest", "--data", data, "--out", out, "--dataset", "D", "--json", "--set", "alerts.enter=3")
    assert result.code == 0
    assert result.json == json.loads((out / "summary.json").read_text())
    assert result.json["alerts"]["enter"] == 3
    bare, good = result.json["series"]
    assert (good["rows"], good["scored_rows"], good["dead_letters"]) == (80, 80, 0)
    assert "vus_pr" not in bare, "no labels, no metrics"
    scores = pd.read_parquet(out / "D" / "good.scores.parquet")
    assert list(scores) == ["row", "score", "attribution.a", "attribution.b", "alert_id"]

    result = run("backtest", "--data", data, "--out", out)
    assert result.code == 1, "one series failed"
    assert "good" in result.out
    assert result.err.splitlines()[-1].startswith("error: 1 of 3 series failed, the first 'bad': history of series")
    assert json.loads((out / "summary.json").read_text())["totals"]["failed"] == 1


def test_backtest_refuses(run: Cli, tmp_path: Path) -> None:
    result = run("backtest", "--data", tmp_path, "--out", tmp_path / "out")
    assert (result.code, "no series found" in result.error) == (1, True)
    result = run("backtest", "--data", tmp_path, "--out", tmp_path / "out", "--set", "detector.nonsense=1")
    assert (result.code, "detector.nonsense: unknown key" in result.error) == (2, True)


# ---- replay


def test_replay_without_a_broker(run: Cli, tmp_path: Path) -> None:
    path = csv(tmp_path / "one.csv", 5)
    result = run("replay", path, "--topic", "t")
    assert (result.code, "--step" in result.error) == (2, True)
    result = run("replay", path, "--topic", "t", "--step", "1s")
    assert (result.code, "kafka.bootstrap is not set" in result.error) == (2, True)
    for wrong in (["--speed", "fast"], ["--speed", "0"], ["--time-unit", "h"], ["--step", "x"], ["--start", "x"]):
        assert run("replay", path, "--topic", "t", *wrong).code == 2, wrong
    result = run("replay", path, "--topic", "t", "--step", "1s", "--start", "+1h")
    assert (result.code, "detector.max_ahead" in result.error) == (2, True)


# ---- scores, alerts, status


@pytest.mark.usefixtures("store")
def test_scores_formats(run: Cli, tmp_path: Path) -> None:
    table = run("scores", "old", "--start", "2023-11-14")
    assert table.code == 0
    assert "2023-11-14T22:13:20Z" in table.out
    result = run("scores", "new", "--json")
    assert len(result.json) == 5
    assert result.json[0]["channels"]["a"]["value"] is None
    assert result.json[0]["channels"]["a"]["imputed"] is True
    assert "channels" not in run("scores", "new", "--format", "json", "--no-channels").json[0]
    lines = run("scores", "new", "--format", "csv").out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("time,score,severity,revision,alert_id,model_version,value.a,")
    assert run("scores", "new", "--format", "parquet", "--out", "x.parquet").code == 0
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 5
    result = run("scores", "old", "--start", "2023-01-01", "--plot", "x.png", "--out", "x.json", "--format", "json")
    assert (result.code, result.out) == (0, "")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "x.json").read_text())) == 5
    assert (
        run("scores", "old", "--start", "2023-01-01", "--stop", "2023-11-14T22:13:22Z", "--json")
        .json[-1]["time"]
        .startswith("2023-11-14T22:13:21")
    )


@pytest.mark.usefixtures("store")
def test_scores_downsampled(run: Cli, tmp_path: Path) -> None:
    asked = ("scores", "old", "--start", "2023-01-01", "--max-points")
    whole = run("scores", "old", "--start", "2023-01-01", "--json").json
    thin = run(*asked, "2", "--json").json
    assert {point["score"] for point in thin} == {f([p["score"] for p in whole]) for f in (min, max)}
    assert set(thin[0]) == {"series", "time", "time_ns", "score", "severity"}
    assert run(*asked, "2", "--format", "csv").out.splitlines()[0] == "time,score,severity"
    table = run(*asked, "9", "--plot", "thin.png")
    assert table.out.count("2023-11-14T22:13") == 5
    assert (tmp_path / "thin.png").read_bytes().startswith(b"\x89PNG")
    assert run(*asked, "1").code == 2
    assert "series with scores: new, old" in run("scores", "nobody", "--max-points", "10").error


@pytest.mark.usefixtures("store")
def test_scores_beyond_a_limit(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad.sdk.frames.MAX_SLOTS", 4)
    result = run("scores", "old", "--start", "2023-01-01")
    assert (result.code, "at most 4 slots at once, found 5" in result.error) == (1, True)


@pytest.mark.usefixtures("store")
def test_an_empty_range_names_the_existing_scores(run: Cli) -> None:
    result = run("scores", "old")
    assert result.code == 1
    assert "it has 5, from 2023-11-14T22:13:20" in result.error
    result = run("scores", "other")
    assert (result.code, "series with scores: new, old" in result.error) == (1, True)
    result = run("scores", "old", "--start", "yesterday")
    assert (result.code, "--start: expected a time" in result.error) == (2, True)


@pytest.mark.usefixtures("store")
def test_alerts(run: Cli) -> None:
    result = run("alerts", "--json")
    assert [(one["series"], one["state"]) for one in result.json] == [("old", "open")]
    assert "old" in run("alerts").out
    assert run("alerts", "--series", "new", "--json").json == []
    assert run("alerts", "--start", "-1h").out == "no alerts\n"


@pytest.mark.usefixtures("store")
def test_status(run: Cli) -> None:
    result = run("status", "--json")
    [one] = result.json["series"]
    assert (one["series"], one["scores"], one["last_score"][:19]) == ("old", 5, "2023-11-14T22:13:24")
    assert result.json["lag"] is None
    assert "5/9" in run("status").out


@pytest.mark.usefixtures("store")
def test_status_reports_the_series_limit(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "detector.max_series" not in run("status").out
    monkeypatch.setenv("STREAM_AD__DETECTOR__MAX_SERIES", "1")
    assert "a worker accepts 1 (detector.max_series) and dead-letters new ones" in run("status").out


def test_status_of_an_empty_store(run: Cli) -> None:
    assert run("status", "--json").json == {"series": [], "lag": None}
    assert run("status").out.startswith("no series yet")
