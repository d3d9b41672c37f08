"""A notifier: the titles of messages as lines of a file, which the route's address names."""

from __future__ import annotations

from pathlib import Path

from stream_ad.errors import UnavailableError
from stream_ad.records import Notification
from stream_ad.settings import NotifyRoute, Settings


class DiaryNotifier:
    service = "a diary"

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, notification: Notification) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as diary:
                diary.write(notification.title + "\n")
        except OSError as error:
            raise UnavailableError(f"the diary cannot be written: {error.strerror}") from error


def make(settings: Settings, route: NotifyRoute) -> DiaryNotifier:
    return DiaryNotifier(Path(settings.notify_url(route)))
