"""TLS contexts of our clients, and the errors when a handshake fails."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_ad.errors import AccessError, ConfigError

__all__ = ["client_context", "tls_error"]


def client_context(
    section: str,
    ca_file: Path | None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    key_password: str | None = None,
    *,
    keys: str = "",
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """A context that trusts `ca_file`, or the system's authorities, and presents `cert_file` if given.

    section and keys: the names of the settings ("kafka", "ssl_"). ConfigError names the broken file.
    """
    with _config_errors(f"{section}.{keys}ca_file {ca_file}", "a certificate"):
        context = ssl.create_default_context(cafile=ca_file)
    context.check_hostname = check_hostname
    if cert_file is not None:
        for key, file in (("cert_file", cert_file), ("key_file", key_file or cert_file)):
            with _config_errors(f"{section}.{keys}{key} {file}"):
                file.open("rb").close()  # the error of `load_cert_chain` does not name the file
        expected = f"a certificate and its key (is {section}.{keys}key_password right?)"
        with _config_errors(f"{section}.{keys}cert_file {cert_file}", expected):
            # without a password the library would prompt for one at the terminal
            context.load_cert_chain(cert_file, key_file, lambda: key_password or "")
    return context


def tls_error(error: ssl.SSLError, server: str, section: str, keys: str = "") -> AccessError | None:
    """The error for a failed handshake with `server`; None when the connection was only cut."""
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return AccessError(
            f"the certificate of {server} is not trusted: {error.verify_message}",
            hint=f"set {section}.{keys}ca_file to the authority that signed it; is the address in the certificate?",
        )
    if "ALERT" in text.upper():
        return AccessError(
            f"{server} did not accept our certificate, or requires one: {error.reason or text}",
            hint=f"set {section}.{keys}cert_file and {section}.{keys}key_file to a certificate that it trusts",
        )
    if "WRONG_VERSION_NUMBER" in text.upper() or "RECORD_LAYER_FAILURE" in text.upper():
        return AccessError(f"{server} does not speak TLS", hint=f"is the port right, and does [{section}] ask for TLS?")
    return None


@contextmanager
def _config_errors(setting: str, expected: str = "") -> Iterator[None]:
    """setting: its name and its file."""
    try:
        yield
    except ssl.SSLError as error:
        raise ConfigError(f"{setting}: expected {expected} in PEM form, found {error}") from None
    except OSError as error:
        raise ConfigError(f"{setting} cannot be read: {error.strerror}") from None
