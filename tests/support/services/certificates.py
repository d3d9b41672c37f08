"""Certificates for TLS on 127.0.0.1, made by openssl: an authority, what it signed, and a stranger."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.services.errors import ServiceUnavailableError, StartError
from tests.support.services.process import HOST

__all__ = ["KEY_PASSWORD", "Certificates"]

KEY_PASSWORD = "key-Pa55!word"  # of the client's encrypted key
_DAYS = "2"


class Certificates:
    """PEM files in a directory: `ca`, `server` (with its key in one file), `client`, `stranger_ca`.

    `stranger` is a client's certificate that `stranger_ca` signed, and `client_encrypted_key` the client's key under
    KEY_PASSWORD.
    """

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            raise ServiceUnavailableError("certificates cannot be made: openssl not found on PATH (install it)")
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ca, _ = self._authority("ca")
        self.stranger_ca, _ = self._authority("stranger-ca")
        server, server_key = self._signed("server", "ca", f"subjectAltName=IP:{HOST},DNS:localhost")
        self.server_certificate, self.server_key = server, server_key
        self.server = self._path("server-all.pem")
        self.server.write_text(server_key.read_text() + server.read_text())
        self.client, self.client_key = self._signed("client", "ca", "extendedKeyUsage=clientAuth")
        self.stranger, self.stranger_key = self._signed("stranger", "stranger-ca", "extendedKeyUsage=clientAuth")
        self.client_encrypted_key = self._path("client-encrypted.key")
        self._openssl(
            "pkcs8", "-topk8", "-in", self.client_key, "-out", self.client_encrypted_key,
            "-passout", f"pass:{KEY_PASSWORD}",
        )  # fmt: skip

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _authority(self, name: str) -> tuple[Path, Path]:
        certificate, key = self._path(f"{name}.pem"), self._path(f"{name}.key")
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", _DAYS, "-subj", f"/CN={name}"),
            *("-keyout", key, "-out", certificate),
        )
        return certificate, key

    def _signed(self, name: str, authority: str, extension: str) -> tuple[Path, Path]:
        certificate, key = self._path(f"{name}.pem"), self._path(f"{name}.key")
        request, extensions = self._path(f"{name}.csr"), self._path(f"{name}.ext")
        extensions.write_text(extension + "\n")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self._openssl(
            *("x509", "-req", "-in", request, "-days", _DAYS, "-CAcreateserial", "-extfile", extensions),
            *("-CA", self._path(f"{authority}.pem"), "-CAkey", self._path(f"{authority}.key"), "-out", certificate),
        )
        return certificate, key

    def _openssl(self, *args: str | Path) -> None:
        done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, check=False, timeout=240)
        if done.returncode != 0:
            raise StartError(f"openssl {args[0]} ended with {done.returncode}:\n{done.stderr}")
