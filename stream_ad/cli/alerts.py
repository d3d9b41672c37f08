"""`alerts`: past alerts, and new ones as they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, settings_of, utc

if TYPE_CHECKING:
    from stream_ad.records import Alert
    from stream_ad.settings import Settings

__all__ = ["command"]

_TOP_CHANNELS = 3


def command(
    context: typer.Context,
    series: Annotated[str | None, typer.Option(help="Only this series.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Only alerts that began at or after this time: -1h, ISO-8601.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep printing alert events as they arrive, one line each.")
    ] = False,
    test_notification: Annotated[
        str | None, typer.Option(metavar="ROUTE", help="Send an example to this route instead, and report the result.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print alerts. --follow alone prints new ones only; with --start it prints the past ones first."""
    settings = settings_of(context)
    if test_notification is not None:
        _test(settings, test_notification)
        return
    from stream_ad.sdk.client import Client

    with Client(settings) as client:
        if follow:
            for alert in client.alerts(series, start, follow=True):
                if as_json:
                    emit_json(_document(alert), lines=True)
                else:
                    print(_line(alert), flush=True)
            return
        alerts = list(client.alerts(series, start))
    if as_json:
        emit_json([_document(alert) for alert in alerts])
    elif not alerts:
        print("no alerts")
    else:
        emit_table(
            ("start", "series", "state", "severity", "peak", "last slot", "driven by", "id"), map(_cells, alerts)
        )


def _test(settings: Settings, name: str) -> None:
    """Sends an example. ConfigError: no such route; UnavailableError: the receiver refuses the message."""
    from stream_ad.errors import ConfigError
    from stream_ad.notifications.rendering import compose, example
    from stream_ad.wiring import open_clock, open_notifier

    routes = {route.name: route for route in settings.notify.routes}
    if name not in routes:
        raise ConfigError(f"no notify route {name!r}, found {sorted(routes)}", hint="add it as [[notify.routes]]")
    notifier = open_notifier(settings, routes[name])
    notifier.send(compose([example(open_clock().now_ns())], link_base=settings.notify.link_base))
    print(f"route {name}: {notifier.service} accepted the example")


def _document(alert: Alert) -> object:
    """The JSON of the alerts topic."""
    import msgspec

    from stream_ad.serde.alerts import alert_to_json

    return msgspec.Raw(alert_to_json(alert))


def _drivers(alert: Alert) -> str:
    if _silent(alert):
        return "no readings" if alert.end_ns is None else "readings resumed"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4g}"

    top = sorted(alert.channels, key=lambda channel: -channel.attribution)[:_TOP_CHANNELS]
    return ", ".join(f"{c.channel} {c.attribution:.0%} ({number(c.actual)} for {number(c.expected)})" for c in top)


def _silent(alert: Alert) -> bool:
    from stream_ad.records import SILENT_RULE

    return alert.rule == SILENT_RULE


def _peak(alert: Alert) -> str:
    return "-" if _silent(alert) else f"{alert.peak_score:.2f}"


def _cells(alert: Alert) -> list[object]:
    end, peak = utc(alert.end_ns), _peak(alert)
    return [
        utc(alert.start_ns), alert.series, alert.state.value, alert.severity, peak, end, _drivers(alert), alert.id
    ]  # fmt: skip


def _line(alert: Alert) -> str:
    return (
        f"{utc(alert.updated_ns)} {alert.state.value} {alert.series} {alert.severity} "
        f"peak {_peak(alert)} since {utc(alert.start_ns)} {_drivers(alert)} {alert.id}"
    )
