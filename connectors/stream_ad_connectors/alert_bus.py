"""Alerts from the sinks to the notifier without a broker in between."""

from __future__ import annotations

from stream_ad.records import Outputs
from stream_ad_connectors.alert_json import alert_to_json
from stream_ad_connectors.bus import BusSource

__all__ = ["AlertBus"]

_WAIT_S = 5.0


class AlertBus:
    """ports.Sink that hands alerts to `source`, which gives them as the alerts topic does.

    Trap: it is memory alone; what nobody has taken ends with the process.
    """

    def __init__(self, maxsize: int = 10_000) -> None:
        self.source = BusSource(maxsize)

    def write(self, outputs: Outputs) -> None:
        """UnavailableError when it is full for too long; alerts written again are the reader's to know."""
        for alert in outputs.alerts:
            self.source.publish(alert_to_json(alert), key=alert.series, timeout_s=_WAIT_S)

    def close(self) -> None:
        self.source.close()
