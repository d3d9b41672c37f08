"""Every scorer that a user can choose can be made, goes by its name, and is documented."""

from __future__ import annotations

import pytest

from stream_ad.errors import ConfigError
from stream_ad.settings import DetectorSettings, Settings
from stream_ad.wiring import SCORERS, build_scorer


def _settings(scorer: str) -> Settings:
    return Settings(detector=DetectorSettings(scorer=scorer))


@pytest.mark.parametrize("name", [name for name in SCORERS if name != "group"])
def test_each_scorer_has_its_configured_name(name: str) -> None:
    assert build_scorer(_settings(name)).name == name


@pytest.mark.parametrize("name", [name for name in SCORERS if name != "group"])
def test_each_scorer_respects_delay_and_hop(name: str) -> None:
    slower = build_scorer(Settings(detector=DetectorSettings(scorer=name, delay_steps=32, hop_steps=32)))
    assert (slower.delay_steps, slower.hop_steps) == (32, 32)
    settings = Settings(detector=DetectorSettings(scorer=name, delay_steps=16))
    usual, sooner = build_scorer(_settings(name)), build_scorer(settings)
    assert (usual.delay_steps, sooner.delay_steps) == (32, 16)
    assert usual.version != sooner.version
    with pytest.raises(ConfigError, match=r"delay_steps: expected a multiple of 16.*found 20"):
        build_scorer(Settings(detector=DetectorSettings(scorer=name, delay_steps=20)))


def test_an_unknown_scorer_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"expected one of .*'pca'.*found 'lof'"):
        build_scorer(_settings("lof"))


def test_the_setting_names_every_scorer() -> None:
    description = DetectorSettings.model_fields["scorer"].description or ""
    assert [name for name in SCORERS if name not in description.replace(",", " ").split()] == []
