"""A Kafka broker that lets in by password over TLS, by certificate, and (for the tests themselves) in the clear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.services.certificates import Certificates
from tests.support.services.kafka import KafkaServer
from tests.support.services.process import HOST, free_ports

__all__ = ["KAFKA_PASSWORD", "KAFKA_USER", "SecuredKafkaServer"]

KAFKA_USER = "stream-ad"
KAFKA_PASSWORD = "sasl-Pa55;w%d ~#{}"
_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")


class SecuredKafkaServer(KafkaServer):
    """`address` answers in the clear, `sasl_ssl` to a user's password, `mutual_tls` to a client's certificate.

    KAFKA_USER may come by SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN.
    """

    def __init__(self, certificates: Certificates) -> None:
        super().__init__()
        self._certificates = certificates
        self._sasl_port, self._tls_port, self._clear_sasl_port = free_ports(3)

    @property
    def sasl_ssl(self) -> str:
        return f"{HOST}:{self._sasl_port}"

    @property
    def sasl_plaintext(self) -> str:
        return f"{HOST}:{self._clear_sasl_port}"

    @property
    def mutual_tls(self) -> str:
        return f"{HOST}:{self._tls_port}"

    def _settings(self, port: int) -> dict[str, str]:
        settings = super()._settings(port)
        more = (
            f",SASL_SSL://{HOST}:{self._sasl_port},SSL://{HOST}:{self._tls_port}"
            f",SASL_PLAINTEXT://{HOST}:{self._clear_sasl_port}"
        )
        settings["listeners"] += more
        settings["advertised.listeners"] += more
        settings["listener.security.protocol.map"] += ",SASL_SSL:SASL_SSL,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"
        return settings | self._security()

    def _security(self) -> dict[str, str]:
        plain = (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{KAFKA_USER}="{KAFKA_PASSWORD}";'
        )
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        modules = {"plain": plain} | {mechanism.lower(): scram for mechanism in _MECHANISMS}
        return {
            "sasl.enabled.mechanisms": ",".join(("PLAIN", *_MECHANISMS)),
            **{
                f"listener.name.{listener}.{mechanism}.sasl.jaas.config": module
                for listener in ("sasl_ssl", "sasl_plaintext")
                for mechanism, module in modules.items()
            },
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._certificates.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._certificates.ca),
            "listener.name.ssl.ssl.client.auth": "required",
        }

    def _format(self, tool: Sequence[str], settings: Path, *more: str) -> None:
        users = [f"{m}=[name={KAFKA_USER},password={KAFKA_PASSWORD}]" for m in _MECHANISMS]
        super()._format(tool, settings, *(word for user in users for word in ("--add-scram", user)), *more)
