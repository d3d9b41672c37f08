"""Toxiproxy, a TCP proxy that delays, throttles and cuts: built from the Go module proxy (seconds), cached."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.services.cache import Build, Say, cached, say_on_stderr
from tests.support.services.errors import require
from tests.support.services.process import HOST, LocalServer, free_ports, port_answers

__all__ = ["Link", "ToxiproxyServer", "prepare_toxiproxy"]

_VERSION = "v2.12.0"
_MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server"


def prepare_toxiproxy(say: Say = say_on_stderr) -> Path:
    """The server's binary, built on first use."""
    return cached("toxiproxy", _VERSION, _build, say) / "server"


def _build(build: Build) -> None:
    require("Toxiproxy", "PATH", "go")
    env = {"GOBIN": str(build.target), "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=mod".strip()}
    build.run("go install", ["go", "install", f"{_MODULE}@{_VERSION}"], cwd=build.target, env=env)


class ToxiproxyServer(LocalServer):
    """The proxy's process; `link` makes one proxied port."""

    title = "Toxiproxy"

    def _command(self, port: int) -> list[str]:
        return [str(prepare_toxiproxy()), "-host", HOST, "-port", str(port)]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LOG_LEVEL": "error"}

    def _ready(self, port: int) -> bool:
        return port_answers(port)

    def link(self, name: str, upstream: str) -> Link:
        """A new proxied port towards `upstream` (host:port, which need not answer yet)."""
        address = f"{HOST}:{free_ports(1)[0]}"
        _call(f"http://{self.address}/proxies", "POST", {"name": name, "listen": address, "upstream": upstream})
        return Link(f"http://{self.address}/proxies/{name}", address)


class Link:
    """One proxied port: what goes through it can be cut, delayed, throttled and held."""

    def __init__(self, url: str, address: str) -> None:
        self._url = url
        self.address = address
        self._count = 0

    def cut(self) -> None:
        """Ends every connection and refuses new ones, until `restore`."""
        _call(self._url, "POST", {"enabled": False})

    def restore(self) -> None:
        _call(self._url, "POST", {"enabled": True})

    def add(self, kind: str, stream: str, **attributes: int) -> str:
        """Adds a toxic (latency, bandwidth, timeout, reset_peer, slicer, limit_data) and returns its name."""
        self._count += 1
        name = f"{kind}-{stream}-{self._count}"
        body = {"name": name, "type": kind, "stream": stream, "attributes": attributes}
        _call(f"{self._url}/toxics", "POST", body)
        return name

    def remove(self, name: str) -> None:
        _call(f"{self._url}/toxics/{name}", "DELETE")


def _call(url: str, method: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as response:
        content = response.read()
    return json.loads(content) if content else None
