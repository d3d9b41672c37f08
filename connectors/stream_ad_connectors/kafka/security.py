"""Credentials and TLS of every Kafka client, and the errors when a broker refuses them."""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from stream_ad.errors import AccessError, ConfigError, StreamAdError, UnavailableError
from stream_ad.settings import KafkaSettings, read_secret
from stream_ad_connectors._redaction import keep_out_of_logs
from stream_ad_connectors._tls import client_context, tls_error

__all__ = ["bootstrap_servers", "probe_broker", "security_options"]

_CLOSING_S = 1.0


def bootstrap_servers(settings: KafkaSettings) -> list[str]:
    """The brokers' addresses. ConfigError when there are none."""
    servers = [part.strip() for part in (settings.bootstrap or "").split(",") if part.strip()]
    if not servers:
        raise ConfigError("kafka.bootstrap is not set", hint="set kafka.bootstrap to host:port of a broker")
    return servers


def security_options(settings: KafkaSettings) -> dict[str, Any]:
    """The security arguments, which have the same names in kafka-python and aiokafka.

    ConfigError when a password or a file is missing or broken.
    """
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls_context(settings)
    if settings.security_protocol.startswith("SASL_"):
        password = read_secret("kafka.sasl_password", settings.sasl_password, settings.sasl_password_file)
        if password is None:
            raise ConfigError(
                f"kafka.security_protocol is {settings.security_protocol} but there is no password",
                hint="set STREAM_AD__KAFKA__SASL_PASSWORD or kafka.sasl_password_file",
            )
        keep_out_of_logs(password)
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = password
    return options


def _tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    password = read_secret("kafka.ssl_key_password", settings.ssl_key_password, settings.ssl_key_password_file)
    return client_context(
        "kafka",
        settings.ssl_ca_file,
        settings.ssl_cert_file,
        settings.ssl_key_file,
        password,
        keys="ssl_",
        check_hostname=settings.ssl_check_hostname,
    )


def probe_broker(settings: KafkaSettings) -> None:
    """Asks one broker for its metadata, and raises the reason when it gets none.

    OSError: no address answers. AccessError: the broker refuses the credentials. UnavailableError: the listener hangs
    up, as it does on a client of another protocol. Called before a kafka-python client is created: that reports every
    failure as an unreachable broker, and leaks its thread.
    """
    options = security_options(settings)
    failed: Exception = OSError("no address")
    for server in bootstrap_servers(settings):
        host, _, port = server.rpartition(":")
        if not port.isdecimal():
            raise ConfigError(f"kafka.bootstrap: expected host:port, found {server!r}")
        try:
            with ThreadPoolExecutor(1) as outside:  # the caller's thread may run an event loop
                outside.submit(asyncio.run, _request_metadata(host.strip("[]"), int(port), settings, options)).result()
        except (KafkaError, OSError, TimeoutError) as error:
            failed = _explain(error, settings, server)
            if isinstance(failed, AccessError | ConfigError):
                break
        else:
            return
    raise failed


async def _request_metadata(host: str, port: int, settings: KafkaSettings, options: dict[str, Any]) -> None:
    connection = AIOKafkaConnection(
        host, port, client_id="stream-ad", request_timeout_ms=int(settings.request_timeout_s * 1000) or 1, **options
    )
    try:
        await connection.connect()
        await connection.send(MetadataRequest([]))  # a listener with authentication answers no other request
    finally:
        if connection.connected():
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.close(), _CLOSING_S)


def _explain(error: Exception, settings: KafkaSettings, server: str) -> Exception:
    """The tree's error when the listener gave a reason, else the connection's own."""
    broker = f"the Kafka broker at {server}"
    protocol = settings.security_protocol
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLError):
        refused: StreamAdError | None = tls_error(cause, broker, "kafka", "ssl_")
        return refused or UnavailableError(f"{broker} aborted the TLS handshake ({cause.reason})")
    name = type(error).__name__
    if name == "SaslAuthenticationFailed":
        reason = next(iter(error.args), name)
        return AccessError(
            f"{broker} refused user {settings.sasl_username!r} by {settings.sasl_mechanism}: {reason}",
            hint="fix kafka.sasl_username, or the password in STREAM_AD__KAFKA__SASL_PASSWORD or its file",
        )
    if name in ("UnsupportedSaslMechanismError", "IllegalSaslStateError"):
        return AccessError(
            f"{broker} does not accept {settings.sasl_mechanism} at this listener",
            hint="set kafka.sasl_mechanism and kafka.security_protocol to what its listener is configured for",
        )
    if isinstance(cause, asyncio.IncompleteReadError | ConnectionResetError):
        return UnavailableError(
            f"{broker} hung up on a client that speaks {protocol}",
            hint="is it being started or stopped? Else set kafka.security_protocol to what its listener speaks",
        )
    return error if isinstance(error, OSError) else OSError(str(error))
