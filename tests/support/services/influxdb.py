"""A real InfluxDB 2.7 server, with Flux, for tests."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.services.cache import Say, say_on_stderr
from tests.support.services.certificates import Certificates
from tests.support.services.containers import ContainerServer, image_ready
from tests.support.services.errors import StartError
from tests.support.services.influxdb_build import INFLUXDB_VERSION, influxd_path
from tests.support.services.process import HOST, LocalServer, wait_until

__all__ = [
    "INFLUXDB_VARIABLE",
    "Influx",
    "InfluxServer",
    "create_bucket",
    "delete_bucket",
    "influx_answers",
    "prepare_influxdb",
    "running_influxdb",
    "setup",
    "with_limited_token",
]

INFLUXDB_VARIABLE = "STREAM_AD_TEST_INFLUXDB"
_IMAGE = f"influxdb:{INFLUXDB_VERSION}"


@dataclass(frozen=True)
class Influx:
    """Address of a store and the credentials for it."""

    url: str
    org: str
    bucket: str
    token: str

    def exports(self) -> dict[str, str]:
        """The environment variables that name this store to a test run."""
        return {f"{INFLUXDB_VARIABLE}_{name.upper()}": value for name, value in vars(self).items()}

    @classmethod
    def from_environment(cls) -> Influx | None:
        """The store named by the environment, None when no URL is set there."""
        if not os.environ.get(f"{INFLUXDB_VARIABLE}_URL"):
            return None
        names = ("url", "org", "bucket", "token")
        values = {name: os.environ.get(f"{INFLUXDB_VARIABLE}_{name.upper()}", "") for name in names}
        missing = [f"{INFLUXDB_VARIABLE}_{name.upper()}" for name, value in values.items() if not value]
        if missing:
            raise StartError(f"{INFLUXDB_VARIABLE}_URL is set, and so must be {', '.join(missing)}")
        return cls(**values)


def _call(url: str, method: str = "GET", body: object = None, token: str | None = None, ca: Path | None = None) -> Any:
    """One JSON request; urllib's errors pass through. ca: the authority of a server that speaks TLS."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Token {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]  # loopback is never proxied
    if ca is not None:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)))
    opener = urllib.request.build_opener(*handlers)
    with opener.open(request, timeout=60) as response:
        content = response.read()
    return json.loads(content) if content else None


def influx_answers(url: str, ca: Path | None = None) -> bool:
    """True when the server calls itself healthy."""
    try:
        return bool(_call(f"{url}/health", ca=ca)["status"] == "pass")
    except (OSError, ValueError):
        return False


def setup(influx: Influx, ca: Path | None = None) -> None:
    """Make the first organisation, bucket and token, unless that was done before."""
    if not _call(f"{influx.url}/api/v2/setup", ca=ca)["allowed"]:
        return
    body = {
        "username": "stream-ad",
        "password": secrets.token_urlsafe(16),
        "org": influx.org,
        "bucket": influx.bucket,
        "token": influx.token,
    }
    try:
        _call(f"{influx.url}/api/v2/setup", "POST", body, ca=ca)
    except urllib.error.HTTPError as error:
        raise StartError(f"InfluxDB's setup was refused with {error.code}: {error.read().decode()}") from error


def create_bucket(influx: Influx, name: str, ca: Path | None = None) -> Influx:
    """Create a bucket without retention; the result names it."""
    orgs = _call(f"{influx.url}/api/v2/orgs?org={influx.org}", token=influx.token, ca=ca)["orgs"]
    body = {"orgID": orgs[0]["id"], "name": name, "retentionRules": []}
    _call(f"{influx.url}/api/v2/buckets", "POST", body, influx.token, ca)
    return replace(influx, bucket=name)


def with_limited_token(influx: Influx, *actions: str, ca: Path | None = None) -> Influx:
    """The same bucket with a token that may do there what `actions` name ("read", "write"), and nothing else."""
    found = _call(f"{influx.url}/api/v2/buckets?org={influx.org}&name={influx.bucket}", token=influx.token, ca=ca)
    bucket = found["buckets"][0]
    resource = {"type": "buckets", "id": bucket["id"], "orgID": bucket["orgID"]}
    body = {"orgID": bucket["orgID"], "permissions": [{"action": action, "resource": resource} for action in actions]}
    made = _call(f"{influx.url}/api/v2/authorizations", "POST", body, influx.token, ca)
    return replace(influx, token=made["token"])


def delete_bucket(influx: Influx) -> None:
    """Delete the bucket that `influx` names, if it is still there."""
    url = f"{influx.url}/api/v2/buckets"
    for found in _call(f"{url}?org={influx.org}&name={influx.bucket}", token=influx.token)["buckets"]:
        _call(f"{url}/{found['id']}", "DELETE", token=influx.token)


class InfluxServer(LocalServer):
    """A separate store, from the packages: for tests that stop, kill, pause or restart it.

    `start` brings the server up, `setup` (idempotent) makes the organisation, bucket and token. With certificates it
    speaks TLS.
    """

    title = "InfluxDB"

    def __init__(
        self,
        port: int | None = None,
        data_dir: Path | None = None,
        *,
        org: str = "stream-ad",
        bucket: str = "stream-ad",
        token: str | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__(port, data_dir)
        self._certificates = certificates
        self._org = org
        self._bucket = bucket
        self._token = token or secrets.token_urlsafe(24)

    @property
    def influx(self) -> Influx:
        """How clients reach it, whether it runs or not."""
        return Influx(f"{self._scheme}://{self.address}", self._org, self._bucket, self._token)

    def setup(self) -> Influx:
        """Make the organisation, bucket and token on a running server."""
        setup(self.influx, self._ca)
        return self.influx

    @property
    def _scheme(self) -> str:
        return "http" if self._certificates is None else "https"

    @property
    def _ca(self) -> Path | None:
        return self._certificates.ca if self._certificates is not None else None

    def _command(self, port: int) -> list[str]:
        data = self.data_dir
        tls = []
        if self._certificates is not None:
            certificate, key = self._certificates.server_certificate, self._certificates.server_key
            tls = [f"--tls-cert={certificate}", f"--tls-key={key}"]
        return [
            str(influxd_path()),
            f"--http-bind-address={HOST}:{port}",
            f"--bolt-path={data / 'influxd.bolt'}",
            f"--sqlite-path={data / 'influxd.sqlite'}",
            f"--engine-path={data / 'engine'}",
            "--reporting-disabled",
            "--log-level=warn",
            *tls,
        ]

    def _environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith("INFLUXD_")}

    def _ready(self, port: int) -> bool:
        return influx_answers(f"{self._scheme}://{HOST}:{port}", self._ca)


def prepare_influxdb(say: Say = say_on_stderr) -> None:
    """Build or pull what `running_influxdb` needs."""
    if not os.environ.get(f"{INFLUXDB_VARIABLE}_URL") and not image_ready(_IMAGE):
        influxd_path(say)


@contextmanager
def running_influxdb(port: int | None = None) -> Iterator[Influx]:
    """Yield a store that is set up: the environment's, a container's, or one from the packages.

    ServiceUnavailableError when there is none to be had. For a store to stop and restart take `InfluxServer`.
    """
    given = Influx.from_environment()
    if given is not None:
        if not wait_until(lambda: influx_answers(given.url), timeout_s=30):
            raise StartError(f"{INFLUXDB_VARIABLE}_URL={given.url}: no InfluxDB answers there")
        yield given
        return
    prepare_influxdb()
    if not image_ready(_IMAGE):
        with InfluxServer(port) as server:
            yield server.setup()
        return
    with ContainerServer(_IMAGE, 8086, lambda outer: influx_answers(f"http://{HOST}:{outer}"), port=port) as container:
        influx = Influx(f"http://{container.address}", "stream-ad", "stream-ad", secrets.token_urlsafe(24))
        setup(influx)
        yield influx
