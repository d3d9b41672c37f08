"""What a client of ours shows and trusts over TLS, and what is wrong when a handshake fails."""

from __future__ import annotations

import ssl
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
    """A context that trusts `ca_file`, or the system's authorities, and shows `cert_file` when asked.

    section and keys: how the settings are called ("kafka", "ssl_"). ConfigError names the file that is broken.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _broken(f"{section}.{keys}ca_file", ca_file, "a certificate", error) from None
    context.check_hostname = check_hostname
    if cert_file is not None:
        for name, file in ((f"{section}.{keys}cert_file", cert_file), (f"{section}.{keys}key_file", key_file)):
            if file is not None:
                _readable(name, file)
        try:
            # without a password the library would ask for one at the terminal
            context.load_cert_chain(cert_file, key_file, lambda: key_password or "")
        except (OSError, ssl.SSLError) as error:
            what = f"a certificate and its key (is {section}.{keys}key_password right?)"
            raise _broken(f"{section}.{keys}cert_file", cert_file, what, error) from None
    return context


def tls_error(error: ssl.SSLError, whom: str, section: str, keys: str = "") -> AccessError | None:
    """What a failed handshake with `whom` means; None when it only says that the connection was cut."""
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return AccessError(
            f"the certificate of {whom} is not trusted: {error.verify_message}",
            hint=f"set {section}.{keys}ca_file to the authority that signed it; is the address the one it is made for?",
        )
    if "ALERT" in text.upper():
        return AccessError(
            f"{whom} did not accept our certificate, or wants one: {error.reason or text}",
            hint=f"set {section}.{keys}cert_file and {section}.{keys}key_file to a certificate that it trusts",
        )
    if "WRONG_VERSION_NUMBER" in text.upper() or "RECORD_LAYER_FAILURE" in text.upper():
        return AccessError(f"{whom} does not speak TLS", hint=f"is the port right, and does [{section}] ask for TLS?")
    return None


def _readable(name: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{name} {file} cannot be read: {error.strerror}") from None


def _broken(name: str, file: Path, expected: str, error: Exception) -> ConfigError:
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return ConfigError(f"{name} {file}: expected {expected} in PEM form, found {error}")
    return ConfigError(f"{name} {file} cannot be read: {error.strerror}")
