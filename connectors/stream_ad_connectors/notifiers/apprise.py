"""Notifications through Apprise: mail, chat, pagers and webhooks, each by one URL."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.records import Notification
from stream_ad_connectors._redaction import keep_out_of_logs

if TYPE_CHECKING:
    from apprise import NotifyBase

__all__ = ["AppriseNotifier"]

_MIN_SECRET_CHARS = 6  # shorter parts of an address are words such as "json" or "to"
_STATUS = re.compile(r"\berror=(\d{3})\b")


class AppriseNotifier:
    """ports.Notifier over one Apprise URL. Errors name the `route`, never the URL.

    Traps of Apprise: `notify` returns False without the reason, which is only in its log (whose text may contain the
    address), so only the HTTP status is parsed from there; receivers reject long texts, so they are truncated.
    """

    def __init__(self, route: str, url: str) -> None:
        """ConfigError: not an Apprise URL, or Apprise is not installed."""
        try:
            import apprise
        except ImportError:
            raise ConfigError(
                f"notify route {route!r} needs Apprise, which is not installed",
                hint="pip install 'stream-ad[notify]'",
            ) from None
        self._apprise = apprise
        self._route = route
        _hide(url)
        with _captured_log():
            service = apprise.Apprise.instantiate(url, asset=apprise.AppriseAsset(secure_logging=True))
        if service is None:
            raise ConfigError(
                f"notify route {route!r}: its address is no URL that Apprise {apprise.__version__} knows",
                hint="https://appriseit.com lists them; try it: stream-ad alerts --test-notification " + route,
            )
        if "overflow=" not in url:
            service.overflow_mode = apprise.OverflowMode.TRUNCATE
        self._service: NotifyBase = service

    @property
    def service(self) -> str:
        return str(self._service.service_name)

    def send(self, notification: Notification) -> None:
        apprise = self._apprise
        plain = self._service.notify_format == apprise.NotifyFormat.TEXT
        sender = apprise.Apprise()
        sender.add(self._service)
        with _captured_log() as lines:
            sent = sender.notify(
                title=notification.title,
                body=notification.text if plain else notification.markdown,
                body_format=apprise.NotifyFormat.TEXT if plain else apprise.NotifyFormat.MARKDOWN,
                notify_type=apprise.NotifyType(notification.kind),
            )
        if not sent:
            status = next((match[1] for line in lines if (match := _STATUS.search(line))), "")
            problem = f"answered with {status}" if status else "does not accept the message"
            raise UnavailableError(f"{self.service} of notify route {self._route!r} {problem}")


def _hide(url: str) -> None:
    """Masks the address, and each part of it that may be a secret, in every log of this process."""
    keep_out_of_logs(url)
    _, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    parts = [user, *user.split(":"), path, *re.split(r"[/?&=,]", path)] if at or slash else []
    if not re.search(r"[.:]|^localhost$", host):  # in the URL of a chat service this is a token, not a host
        parts.append(host)
    for part in parts:
        if len(part) >= _MIN_SECRET_CHARS:
            keep_out_of_logs(part)
            keep_out_of_logs(unquote(part))


_open_collectors: list[_Collector] = []


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Collects what Apprise logs meanwhile, and keeps it out of every other log."""
    handler = _Collector()
    log = logging.getLogger("apprise")
    log.propagate = False
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    _open_collectors.append(handler)
    try:
        yield handler.lines
    finally:
        _open_collectors.remove(handler)
        log.removeHandler(handler)


class _Collector(logging.Handler):
    """Keeps nothing while two messages are in flight: Apprise logs from other threads, and lines could be mixed up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(_open_collectors) == 1:
            self.lines.append(record.getMessage())
