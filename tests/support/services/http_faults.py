"""An HTTP proxy that answers in the server's place: refusals with Retry-After, answers that get lost."""

from __future__ import annotations

import http.client
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.services.process import HOST

__all__ = ["HttpFaults"]

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


class HttpFaults:
    """Passes requests on to `upstream` (host:port). While `refuse` is set, writes are refused in its place; while
    `lose` is set, writes are done and their answers lost, as when a connection breaks at the wrong moment."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.refuse: tuple[int, str] | None = None  # status, Retry-After
        self.lose = False
        self.refused = self.lost = 0
        faults = self

        class Handler(_Handler):
            owner = faults

        self._server = _Server((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def address(self) -> str:
        return f"{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or cut off are what this is for."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: HttpFaults
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._pass()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        writing = self.path.startswith("/api/v2/write")
        refuse = self.owner.refuse
        if writing and refuse is not None:
            self.owner.refused += 1
            return self._answer(refuse[0], {"Retry-After": refuse[1]}, b'{"code":"unavailable","message":"drill"}')
        self._pass(body, lose=writing and self.owner.lose)

    def _pass(self, body: bytes | None = None, *, lose: bool = False) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
        host, _, port = self.owner.upstream.rpartition(":")
        upstream = http.client.HTTPConnection(host, int(port), timeout=240)
        try:
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # as the server's own port would: no answer
            return
        finally:
            upstream.close()
        if lose:
            self.owner.lost += 1
            self.close_connection = True
            return
        self._answer(response.status, dict(response.getheaders()), content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the client gave up waiting

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""
