"""How every Kafka client proves who it is: settings to arguments, in one place."""

from __future__ import annotations

import ssl
from typing import Any

from stream_ad.errors import ConfigError
from stream_ad.settings import KafkaSettings, read_secret
from stream_ad_connectors.tls import client_context

__all__ = ["security_options", "tls_context"]


def security_options(settings: KafkaSettings) -> dict[str, Any]:
    """The security arguments of kafka-python and of aiokafka, which call them the same.

    ConfigError when a password or a file is missing.
    """
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    context = tls_context(settings)
    if context is not None:
        options["ssl_context"] = context
    if settings.sasl_mechanism is not None:
        password = read_secret("kafka.sasl_password", settings.sasl_password, settings.sasl_password_file)
        if password is None:
            raise ConfigError(
                f"kafka.security_protocol is {settings.security_protocol} but there is no password",
                mend="set STREAM_AD__KAFKA__SASL_PASSWORD or kafka.sasl_password_file",
            )
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = password
    return options


def tls_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """None where the protocol is without TLS."""
    if not settings.security_protocol.endswith("SSL"):
        return None
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
