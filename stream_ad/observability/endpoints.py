"""/metrics, /healthz and /readyz of a worker, served by a dedicated thread: they answer while the worker is stuck.

http.server instead of Starlette and uvicorn: uvicorn has no timeout for a client that connects and sends nothing.
"""

from __future__ import annotations

import json
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from stream_ad.errors import ConfigError
from stream_ad.observability.worker_health import WorkerHealth

__all__ = ["HealthServer", "health", "readiness"]

CLIENT_TIMEOUT_S = 10.0
_JSON = "application/json"


def health(health: WorkerHealth) -> tuple[int, dict[str, object]]:
    """Status and body of /healthz: 503 only where a restart may help. An unavailable dependency is no such case."""
    if health.stalled:
        return 503, {"status": "stalled", "reasons": [health.stalled]}
    outages = health.outages()
    return 200, {"status": "waiting" if outages else "ok", "reasons": outages}


def readiness(health: WorkerHealth) -> tuple[int, dict[str, object]]:
    """Status and body of /readyz: 200 once the worker scores. A standby member without partitions is ready."""
    reasons = health.unready()
    partitions = [f"{topic}/{partition}" for topic, partition in sorted(health.partitions)]
    return 503 if reasons else 200, {"ready": not reasons, "reasons": reasons, "partitions": partitions}


class HealthServer:
    """Serves until it is closed. `port`: the bound one. ConfigError when it cannot be bound."""

    def __init__(self, host: str, port: int, health: WorkerHealth, registry: CollectorRegistry) -> None:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._server = _Server(family, (host, port), partial(_Handler, health, registry))
        except OSError as error:
            raise ConfigError(
                f"observability: {host} port {port} cannot be bound: {error.strerror or error}",
                hint="give every worker of a host a different port (--port, STREAM_AD__OBSERVABILITY__PORT), or 0",
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingTCPServer):
    """Not HTTPServer: that one asks a name server for the name of this host, which may take its time."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], handler: Any) -> None:
        self.address_family = family
        super().__init__(address, handler)


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "stream-ad", ""
    timeout = CLIENT_TIMEOUT_S

    def __init__(self, health: WorkerHealth, registry: CollectorRegistry, *connection: Any) -> None:
        self._health, self._registry = health, registry
        super().__init__(*connection)  # it handles the requests

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._respond(200, CONTENT_TYPE_LATEST, generate_latest(self._registry))
        elif path in ("/healthz", "/readyz"):
            status, body = (health if path == "/healthz" else readiness)(self._health)
            self._respond(status, _JSON, json.dumps(body).encode())
        else:
            self._respond(404, _JSON, b'{"paths": ["/metrics", "/healthz", "/readyz"]}')

    do_HEAD = do_GET  # noqa: N815  # the base class's name

    def _respond(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not logged."""
