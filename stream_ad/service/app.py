"""The ASGI application of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from stream_ad.errors import AccessError, ConfigError, DataError, StreamAdError, UnavailableError
from stream_ad.service import api, pages
from stream_ad.service.auth import Access, Admin
from stream_ad.service.dependencies import AppState, StateDep
from stream_ad.service.live_feed import Feed
from stream_ad.service.middleware import AccessMiddleware, HttpMetrics, problem
from stream_ad.service.publisher import SharedPublisher
from stream_ad.service.schemas import Problem
from stream_ad.settings import Settings
from stream_ad.wiring import group_lag, open_store

__all__ = ["make_app"]

SESSION_S = 7 * 86_400
_PROBLEMS = {
    401: "no token, or an unknown one",
    403: "the role is not sufficient",
    422: "the request is invalid",
    429: "too many requests",
    503: "the store or the broker is unreachable",
}
_STATUS = {ConfigError: 422, DataError: 422, UnavailableError: 503, AccessError: 502}


def make_app(settings: Settings) -> FastAPI:
    """The page and the API; the store is opened at startup. ConfigError: no user has a token, or none is needed from
    other machines."""
    serve = settings.serve
    access, metrics = Access(settings), HttpMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = await asyncio.to_thread(open_store, settings)
        feed = Feed(settings, store, serve.streams)
        publisher = SharedPublisher(settings)
        app.state.app_state = AppState(settings, store, feed, access, metrics, publisher, lambda: group_lag(settings))
        feed.start()
        try:
            yield
        finally:
            feed.close()
            await asyncio.to_thread(feed.join)
            store.sink.close()
            await asyncio.to_thread(publisher.close)

    app = FastAPI(
        title="stream-ad",
        version=version("stream-ad"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        responses={
            status: {"model": Problem, "description": description, "content": {"application/problem+json": {}}}
            for status, description in _PROBLEMS.items()
        },
    )
    app.state.access = access
    app.include_router(api.router)
    app.include_router(pages.router)
    _add_operations(app)
    app.mount("/static", StaticFiles(directory=pages.HERE / "static"), name="static")
    _add_error_handlers(app)
    https = serve.ssl_cert_file is not None
    app.add_middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5)
    app.add_middleware(AccessMiddleware, access=access, metrics=metrics, https=https)
    app.add_middleware(
        SessionMiddleware,
        secret_key=access.key,
        session_cookie="stream_ad",
        max_age=SESSION_S,
        same_site="lax",
        https_only=https,
    )
    if serve.local or serve.hosts:  # against DNS rebinding
        names = {serve.host, "127.0.0.1", "localhost", "[::1]", *serve.hosts}
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=sorted(names))
    return app


def _add_operations(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"])
    def healthz() -> dict[str, str]:
        """200 while the service responds; needs no token."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    def readyz(principal: Admin, state: StateDep) -> dict[str, bool]:
        """200 when the store responds, else 503 with the reason."""
        state.store.scores.score_extent("", 0, 1)
        return {"ready": True}

    @app.get("/metrics", tags=["operations"])
    def metrics(principal: Admin, state: StateDep) -> Response:
        """Prometheus metrics of the HTTP requests."""
        return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_error_handlers(app: FastAPI) -> None:
    """Turns every error into a problem document (RFC 9457) without internal details."""

    @app.exception_handler(StreamAdError)
    def product_error(request: Request, error: StreamAdError) -> Response:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
        wait_s = error.retry_after_s if isinstance(error, UnavailableError) else None
        return problem(
            status, error.message, error.hint, {"Retry-After": str(int(wait_s or 5))} if status == 503 else None
        )

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def invalid_request(request: Request, error: RequestValidationError) -> Response:
        problems = (f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        return problem(422, "the request does not match /docs", "; ".join(problems))
