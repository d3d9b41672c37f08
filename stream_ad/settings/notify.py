"""The section of the settings that says who is told of which alerts, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from stream_ad.durations import Duration, Rate
from stream_ad.settings.quiet_hours import parse_mute

__all__ = ["NotifyRoute", "NotifySettings"]

MAX_ROUTES = 32  # their places in the log travel together in the text beside a commit, which is 4,096 bytes


def _check_mute(text: str) -> str:
    parse_mute(text)
    return text


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"expected a time zone such as 'Europe/Berlin', found {name!r}") from None
    return name


class NotifyRoute(BaseModel):
    """Where alerts of some kind are told. Its address is a secret: it comes from the environment or a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="what it is called; its address is STREAM_AD__NOTIFY__URLS__NAME, an Apprise URL",
    )
    url_file: Path | None = Field(None, description="file that holds the address, where the environment does not")
    notifier: str | None = Field(
        None, description="one that another package brings (docs/extending.md) in place of Apprise"
    )
    series: tuple[str, ...] = Field(("*",), min_length=1, description="names or shell patterns of series")
    rules: tuple[str, ...] = Field((), description="rules (threshold, silent); every rule when empty")
    min_severity: Literal["warning", "critical"] = Field(
        "warning", description="tell from this on, a score of 1 or of 2; `silent` counts as a warning"
    )
    states: tuple[Literal["open", "update", "resolved"], ...] = Field(
        ("open", "resolved"), min_length=1, description="what is told of an alert; update: its peak has doubled"
    )
    group_wait: Duration = Field("10s", description="alerts within this time of the first become one message")
    rate: Rate = Field("20 per hour", description="so many messages at once, then evenly; the rest waits, summed up")
    mute: tuple[Annotated[str, AfterValidator(_check_mute)], ...] = Field(
        (), description="quiet times such as 'Mon-Fri 22:00-06:00', 'Sat,Sun 00:00-24:00', 'daily 12:00-13:00'"
    )
    time_zone: Annotated[str, AfterValidator(_check_zone)] = Field("UTC", description="time zone of `mute`")


class NotifySettings(BaseModel):
    """Who is told of alerts."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    link_base: str | None = Field(
        None, description="address of the page as people reach it; messages then link to LINK_BASE/alerts/ID"
    )
    urls: dict[str, SecretStr] = Field(
        {}, description="only by STREAM_AD__NOTIFY__URLS__NAME, one variable a route: its Apprise URL"
    )
    routes: tuple[NotifyRoute, ...] = Field((), max_length=MAX_ROUTES, description="[[notify.routes]], below")

    @model_validator(mode="after")
    def _routes_make_sense(self) -> Self:
        names = [route.name for route in self.routes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"routes: expected names that differ, found {twice[0]!r} twice")
        unknown = sorted(set(self.urls) - set(names))
        if unknown:
            raise ValueError(f"urls: an address for {unknown[0]!r}, and the routes are {sorted(names)}")
        if self.link_base is not None:
            parts = urlsplit(self.link_base)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
                raise ValueError("link_base: expected http(s)://host[:port][/path] without a user")
        return self
