"""Messages to people by Apprise: mail, chat, pagers and webhooks, each behind one URL."""

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

_MIN_SECRET = 6  # characters: shorter pieces of an address are words such as "json" or "to"
_STATUS = re.compile(r"\berror=(\d{3})\b")


class AppriseNotifier:
    """ports.Notifier over one Apprise URL; `route` is the word for it in errors, where the URL never shows.

    Traps of Apprise: it says that a message was not taken, and why only in its log (whose text may hold the address),
    so the status is all that is read from there; a text too long for a receiver is refused, so it is cut.
    """

    def __init__(self, route: str, url: str) -> None:
        """ConfigError when the URL is not one, or Apprise is not installed."""
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
        with _listening():
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
        with _listening() as said:
            taken = sender.notify(
                title=notification.title,
                body=notification.text if plain else notification.markdown,
                body_format=apprise.NotifyFormat.TEXT if plain else apprise.NotifyFormat.MARKDOWN,
                notify_type=apprise.NotifyType(notification.kind),
            )
        if not taken:
            status = next((match[1] for line in said if (match := _STATUS.search(line))), "")
            why = f"answered with {status}" if status else "does not take the message"
            raise UnavailableError(f"{self.service} of notify route {self._route!r} {why}")


def _hide(url: str) -> None:
    """The address, and each piece of it that may be a secret, stay out of every log of this process."""
    keep_out_of_logs(url)
    _, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    pieces = [user, *user.split(":"), path, *re.split(r"[/?&=,]", path)] if at or slash else []
    if not re.search(r"[.:]|^localhost$", host):  # of a chat service this is a token and no host
        pieces.append(host)
    for piece in pieces:
        if len(piece) >= _MIN_SECRET:
            keep_out_of_logs(piece)
            keep_out_of_logs(unquote(piece))


_collectors: list[_Collector] = []


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What Apprise logs meanwhile, kept from every other log."""
    handler = _Collector()
    log = logging.getLogger("apprise")
    log.propagate = False
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    _collectors.append(handler)
    try:
        yield handler.lines
    finally:
        _collectors.remove(handler)
        log.removeHandler(handler)


class _Collector(logging.Handler):
    """Apprise sends from threads of its own: of two messages on their way at once, neither is told of what is said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(_collectors) == 1:
            self.lines.append(record.getMessage())
