"""Notification routes in the settings: the documented ones load, and no address is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from stream_ad_connectors.notifiers.apprise import AppriseNotifier

from stream_ad.errors import ConfigError
from stream_ad.settings import load_settings

DOCS = Path(__file__).parents[3] / "docs" / "notifications.md"
SECRET = "hush-hush-hush"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (body,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "stream-ad.toml"
    path.write_text(body, encoding="utf-8")
    return path


def test_the_documented_routes_load_with_their_addresses(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_AD__NOTIFY__URLS__TEAM", f"json://me:{SECRET}@127.0.0.1:1/")
    settings = load_settings(config)
    team, night = settings.notify.routes
    assert settings.notify_url(team).endswith("127.0.0.1:1/")
    assert SECRET not in repr(settings)
    with pytest.raises(ConfigError, match="night-url cannot be read"):
        settings.notify_url(night)


def test_an_address_in_the_file_or_without_a_route_is_rejected(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = config.read_text(encoding="utf-8")
    config.write_text(f"{whole}\n[notify.urls]\nteam = '{SECRET}'\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"holds notify.urls") as error:
        load_settings(config)
    assert SECRET not in str(error.value) + error.value.hint
    config.write_text(whole, encoding="utf-8")
    monkeypatch.setenv("STREAM_AD__NOTIFY__URLS__BOSS", f"json://{SECRET}/")
    with pytest.raises(ConfigError, match=r"'boss', and the routes are \['night', 'team'\]") as error:
        load_settings(config)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"night"', '"team"', "names that differ"),
        ("06:00-22:00", "6-22", "expected days and times"),
        ("Europe/Berlin", "Europe/Atlantis", "expected a time zone"),
        ("https://watch.example", "watch.example", "expected http"),
        ("5 per hour", "often", "rate"),
    ],
)
def test_invalid_routes_are_rejected(config: Path, old: str, new: str, words: str) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_settings(config)


def test_an_unknown_apprise_address_is_rejected_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="is no URL that Apprise") as error:
        AppriseNotifier("team", f"carrier-pigeon://{SECRET}")
    assert SECRET not in str(error.value) + error.value.hint
