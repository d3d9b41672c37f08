"""/metrics, /healthz and /readyz of a worker, from a thread of their own: they answer though the worker is stuck."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from stream_ad.errors import ConfigError
from stream_ad.observability.worker_health import WorkerHealth

__all__ = ["HealthServer", "health", "readiness"]

CLIENT_TIMEOUT_S = 10.0
_JSON = "application/json"


def health(health: WorkerHealth) -> tuple[int, dict[str, object]]:
    """Status and body of /healthz: 503 only where a restart may help. Waiting for a service is not such a case."""
    if health.stalled:
        return 503, {"status": "stalled", "reasons": [health.stalled]}
    waiting = health.waiting()
    return 200, {"status": "waiting" if waiting else "ok", "reasons": waiting}


def readiness(health: WorkerHealth) -> tuple[int, dict[str, object]]:
    """Status and body of /readyz: 200 once it scores. A member that got no partition (a spare one) is ready."""
    reasons = health.unready()
    partitions = [f"{topic}/{partition}" for topic, partition in sorted(health.partitions)]
    return 503 if reasons else 200, {"ready": not reasons, "reasons": reasons, "partitions": partitions}


class HealthServer:
    """Serves until closed. ConfigError when the port cannot be bound; `port` is the one it got."""

    def __init__(self, host: str, port: int, health: WorkerHealth, registry: CollectorRegistry) -> None:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._server = _Server(family, (host, port), health, registry)
        except OSError as error:
            raise ConfigError(
                f"observability: {host} port {port} cannot be bound: {error.strerror or error}",
                hint="give every worker of a host a port of its own (--port, STREAM_AD__OBSERVABILITY__PORT), or 0",
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, family: socket.AddressFamily, address: tuple[str, int], health: WorkerHealth, registry: CollectorRegistry
    ) -> None:
        self.address_family = family
        self.health, self.registry = health, registry
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without asking a name server for our own name, which may take its time."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "stream-ad", ""
    timeout = CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))
        elif path in ("/healthz", "/readyz"):
            status, body = (health if path == "/healthz" else readiness)(self.server.health)
            self._answer(status, _JSON, json.dumps(body).encode())
        else:
            self._answer(404, _JSON, b'{"paths": ["/metrics", "/healthz", "/readyz"]}')

    do_HEAD = do_GET  # noqa: N815  # the base class's name

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are no events."""
