"""Runs the service until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from stream_ad.errors import ConfigError
from stream_ad.service.app import make_app
from stream_ad.settings import Settings

__all__ = ["run_service"]

SHUTDOWN_S = 5


class _Server(uvicorn.Server):
    """Ends live streams at the first signal, because they would delay the shutdown, and then exits with code 0, where
    uvicorn itself would raise the signal again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        if isinstance(app, FastAPI) and hasattr(app.state, "app_state"):
            app.state.app_state.feed.close()
        self.force_exit = self.should_exit
        self.should_exit = True


def run_service(settings: Settings, say: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; passes `say` the address, with the token if one was generated.

    ConfigError: the address cannot be bound, or see `make_app`.
    """
    serve = settings.serve
    app = make_app(settings)
    bound = _bind(serve.host, serve.port)
    scheme = "http" if serve.ssl_cert_file is None else "https"
    host = f"[{serve.host}]" if ":" in serve.host else serve.host
    address = f"{scheme}://{host}:{bound.getsockname()[1]}/"
    token = app.state.access.generated
    say(f"serving {address}{f'?token={token}' if token else ''}")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=serve.ssl_cert_file,
        ssl_keyfile=serve.ssl_key_file,
        timeout_graceful_shutdown=SHUTDOWN_S,
        lifespan="on",
    )
    with bound:
        _Server(config).run(sockets=[bound])


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise ConfigError(
            f"serve: {host} port {port} cannot be bound: {error.strerror or error}",
            hint="choose another (--port, serve.port), or 0 for any free port",
        ) from None
