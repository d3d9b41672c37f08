"""Options of `Detector`: keys of the settings sections detector and alerts, as keywords."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from stream_ad.durations import duration_ns
from stream_ad.errors import OptionError
from stream_ad.ports import Scorer
from stream_ad.settings import AlertSettings, DetectorSettings, Settings

__all__ = ["OPTIONS", "settings_of", "step_of"]

_SECTIONS: Mapping[str, type[DetectorSettings | AlertSettings]] = {
    "detector": DetectorSettings,
    "alerts": AlertSettings,
}
OPTIONS: Mapping[str, object] = {
    key: field.default
    for section in _SECTIONS.values()
    for key, field in section.model_fields.items()
    if key != "scorer"
}
"""Name -> default."""


def settings_of(scorer: object, options: Mapping[str, object]) -> Settings:
    """Settings with the sections detector and alerts from keywords. OptionError names an unknown keyword."""
    sections: dict[str, dict[str, object]] = {"detector": {}, "alerts": {}}
    if isinstance(scorer, str):
        sections["detector"]["scorer"] = scorer
    elif not isinstance(scorer, Scorer):
        raise OptionError(f"scorer: expected a name or a Scorer, found {scorer!r}")
    for key, value in options.items():
        if key not in OPTIONS:
            known = sorted({*OPTIONS, "scorer", "step", "series"})
            raise OptionError(f"Detector has no option {key!r}", hint=f"expected one of {', '.join(known)}")
        sections["detector" if key in DetectorSettings.model_fields else "alerts"][key] = value
    try:
        made = {name: section.model_validate(sections[name]) for name, section in _SECTIONS.items()}
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise OptionError(f"{where}: {what}, found {first['input']!r}") from None
    return Settings().model_copy(update=made)


def step_of(step: object) -> int | None:
    """Nanoseconds of `step`; None without one. OptionError."""
    if step is None:
        return None
    if not isinstance(step, str):
        raise OptionError(f"step: expected a duration such as '1s', found {step!r}")
    try:
        return duration_ns(step)
    except ValueError as error:
        raise OptionError(f"step: {error}") from None
