"""Plugins of another package, installed as an installer would: scorers, sinks and sources by their entry points."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from stream_ad.errors import ConfigError
from stream_ad.runtime.worker import run_worker
from stream_ad.settings import (
    DetectorSettings,
    NotifyRoute,
    NotifySettings,
    PluginSettings,
    Settings,
    StoreSettings,
    Subscription,
)
from stream_ad.wiring import SCORERS, build_scorer, open_notifier, open_sinks, open_source, open_store
from tests.contracts import check_scorer as suite

EXAMPLE = Path(__file__).parents[2] / "example_package"


def install(target: Path, entries: dict[str, dict[str, str]], name: str = "stream-ad-example") -> None:
    """The metadata that an installer leaves of a package, from its entry points."""
    info = target / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = []
    for group, points in entries.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    target = tmp_path / "site"
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install(target, project["entry-points"], project["name"])
    shutil.copytree(EXAMPLE / "stream_ad_example", target / "stream_ad_example")
    monkeypatch.syspath_prepend(str(target))
    return target


def made(**options: Any) -> Settings:
    return Settings(detector=DetectorSettings(scorer="deviation", false_alarms="1 per day"), **options)


@pytest.mark.parametrize(
    "check",
    [
        suite.check_port,
        suite.check_missing,
        suite.check_holes_in_history,
        suite.check_anomaly_stands_out,
        suite.check_determinism,
        suite.check_batch_independence,
        suite.check_lookback,
        suite.check_no_look_ahead,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.usefixtures("installed")
def test_a_scorer_plugin_fulfils_the_contract(check: Any) -> None:
    check(build_scorer(made()))


@pytest.mark.usefixtures("installed")
def test_a_worker_runs_on_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tmp_path / "lines.jsonl"
    monkeypatch.setenv("STREAM_AD_EXAMPLE_LINES", str(lines))
    diary = tmp_path / "diary"
    settings = made(
        notify=NotifySettings(
            routes=(NotifyRoute(name="diary", notifier="diary", group_wait="10ms"),),
            urls={"diary": SecretStr(str(diary))},
        ),
        plugins=PluginSettings(source="waves", sinks=("lines",)),
        subscription=(Subscription(topic="waves", step="1s"),),
        store=StoreSettings(path=tmp_path / "store.db"),
    )
    run_worker(settings.model_copy(update={"models": settings.models.model_copy(update={"url": str(tmp_path / "m")})}))
    written = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    store = open_store(settings)
    alerts = store.alerts.alerts("wave", 0, 2**62)
    held = store.scores.score_counts()
    store.sink.close()
    assert held == {"wave": sum("score" in each for each in written)} == {"wave": 600 - 128}
    assert {each["key"] for each in written if "alert" in each} == {alert.id for alert in alerts}
    assert len(alerts) == 1
    assert "wave" in diary.read_text(encoding="utf-8")


@pytest.mark.usefixtures("installed")
def test_unknown_plugin_names_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"detector.scorer: expected one of .*'deviation'.*'universal'.*found 'lof'"):
        build_scorer(Settings(detector=DetectorSettings(scorer="lof")))
    with pytest.raises(ConfigError, match=r"routes r: notifier: expected one of \['diary'\], found 'pigeon'"):
        open_notifier(made(), NotifyRoute(name="r", notifier="pigeon"))
    with pytest.raises(ConfigError, match=r"plugins.source: expected one of \['waves'\], found 'tides'"):
        open_source(made(plugins=PluginSettings(source="tides")))


@pytest.mark.usefixtures("installed")
def test_a_broken_or_wrong_plugin_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group, json_module = "stream_ad.sinks", "json:dumps"
    points = {"broken": "stream_ad_example.none:make", "number": "stream_ad_example.deviation:make"}
    points |= {"lines": json_module}
    install(tmp_path / "other", {group: points, "stream_ad.scorers": {"other": points["number"]}}, "other")
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    store = open_store(made(store=StoreSettings(path=tmp_path / "store.db")))
    for name, found in (
        ("broken", "'broken' of package other cannot be loaded: No module named"),
        ("number", "expected a Sink, found DeviationScorer"),
        ("lines", "'lines' is provided by .'package other', 'package stream-ad-example'."),
    ):
        with pytest.raises(ConfigError, match=f"plugins.sinks: {found}"):
            open_sinks(made(plugins=PluginSettings(sinks=(name,))), store)
    store.sink.close()
    with pytest.raises(ConfigError, match="expected a Scorer named 'other'"):
        build_scorer(Settings(detector=DetectorSettings(scorer="other")))


@pytest.mark.usefixtures("installed")
def test_a_plugin_cannot_replace_a_built_in_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "other", {"stream_ad.scorers": {"memory": "stream_ad_example.deviation:make"}}, "other")
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    assert "memory" in SCORERS
    assert type(build_scorer(Settings(detector=DetectorSettings(scorer="memory")))).__name__ == "MemoryScorer"
