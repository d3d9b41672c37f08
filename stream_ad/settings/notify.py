"""Settings of notifications: routes with their filters, grouping, rates and quiet times."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, SecretStr, model_validator

from stream_ad.durations import Duration, Rate
from stream_ad.settings.quiet_hours import parse_mute
from stream_ad.settings.sections import Section, check_names

__all__ = ["NotifyRoute", "NotifySettings"]

MAX_ROUTES = 32  # their offsets share the metadata of one commit, at most 4,096 bytes


def _check_mute(text: str) -> str:
    parse_mute(text)
    return text


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"expected a time zone such as 'Europe/Berlin', found {name!r}") from None
    return name


class NotifyRoute(Section):
    """A receiver and the alerts it gets. Its address is a secret: it comes from the environment or a file."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="name; the address is STREAM_AD__NOTIFY__URLS__NAME, an Apprise URL",
    )
    url_file: Path | None = Field(None, description="file with the address, when the environment has none")
    notifier: str | None = Field(None, description="notifier plugin (docs/extending.md) in place of Apprise")
    series: tuple[str, ...] = Field(("*",), min_length=1, description="names or shell patterns of series")
    rules: tuple[str, ...] = Field((), description="rules (threshold, silent); every rule when empty")
    min_severity: Literal["warning", "critical"] = Field(
        "warning",
        description="lowest severity: a score of 1 is a warning, 2 is critical; `silent` is a warning",
    )
    states: tuple[Literal["open", "update", "resolved"], ...] = Field(
        ("open", "resolved"), min_length=1, description="alert events that are sent; update: the peak has doubled"
    )
    group_wait: Duration = Field("10s", description="alerts within this time of the first are sent as one message")
    rate: Rate = Field(
        "20 per hour",
        description="so many messages at once, then evenly spaced; further alerts wait for one message",
    )
    mute: tuple[Annotated[str, AfterValidator(_check_mute)], ...] = Field(
        (), description="quiet times such as 'Mon-Fri 22:00-06:00', 'Sat,Sun 00:00-24:00', 'daily 12:00-13:00'"
    )
    time_zone: Annotated[str, AfterValidator(_check_zone)] = Field("UTC", description="time zone of `mute`")


class NotifySettings(Section):
    """Notifications of alerts."""

    link_base: str | None = Field(
        None, description="public address of the page; messages then link to LINK_BASE/alerts/ID"
    )
    urls: dict[str, SecretStr] = Field(
        {}, description="only by STREAM_AD__NOTIFY__URLS__NAME, one variable per route: its Apprise URL"
    )
    routes: tuple[NotifyRoute, ...] = Field((), max_length=MAX_ROUTES, description="[[notify.routes]], below")

    @model_validator(mode="after")
    def _check_routes(self) -> Self:
        check_names("routes", [route.name for route in self.routes], "urls", self.urls)
        if self.link_base is not None:
            parts = urlsplit(self.link_base)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
                raise ValueError("link_base: expected http(s)://host[:port][/path] without a user")
        return self
