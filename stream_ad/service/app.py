"""Settings to an ASGI application."""

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
from stream_ad.service.schemas import Problem
from stream_ad.settings import Settings
from stream_ad.wiring import group_lag, open_store

__all__ = ["make_app"]

SESSION_S = 7 * 86_400
_PROBLEMS = {
    401: "no token, or nobody's",
    403: "a role too low",
    422: "not as described here",
    429: "too many requests",
    503: "store or broker away",
}
_STATUS = {ConfigError: 422, DataError: 422, UnavailableError: 503, AccessError: 502}


def make_app(settings: Settings) -> FastAPI:
    """The page and the API. ConfigError when nobody could come in, or everybody. The store is opened at its start."""
    serve = settings.serve
    access, measures = Access(settings), HttpMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = await asyncio.to_thread(open_store, settings)
        feed = Feed(settings, store, serve.streams)
        app.state.app_state = AppState(settings, store, feed, access, measures, lambda: group_lag(settings))
        feed.start()
        try:
            yield
        finally:
            feed.close()
            await asyncio.to_thread(feed.join)
            store.sink.close()

    app = FastAPI(
        title="stream-ad",
        version=version("stream-ad"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        responses={
            status: {"model": Problem, "description": said, "content": {"application/problem+json": {}}}
            for status, said in _PROBLEMS.items()
        },
    )
    app.state.access = access
    app.include_router(api.router)
    app.include_router(pages.router)
    _watched(app)
    app.mount("/static", StaticFiles(directory=pages.HERE / "static"), name="static")
    _errors(app)
    https = serve.ssl_cert_file is not None
    app.add_middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5)
    app.add_middleware(AccessMiddleware, access=access, measures=measures, https=https)
    app.add_middleware(
        SessionMiddleware,
        secret_key=access.key,
        session_cookie="stream_ad",
        max_age=SESSION_S,
        same_site="lax",
        https_only=https,
    )
    if serve.local or serve.hosts:  # so that a foreign name that leads here gets nothing
        names = {serve.host, "127.0.0.1", "localhost", "[::1]", *serve.hosts}
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=sorted(names))
    return app


def _watched(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"])
    def healthz() -> dict[str, str]:
        """200 while it answers at all; open to everybody."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    def readyz(who: Admin, state: StateDep) -> dict[str, bool]:
        """200 once the store answers, else 503 and why."""
        state.store.scores.score_extent("", 0, 1)
        return {"ready": True}

    @app.get("/metrics", tags=["operations"])
    def metrics(who: Admin, state: StateDep) -> Response:
        """Prometheus text of the service's own requests."""
        return Response(generate_latest(state.measures.registry), media_type=CONTENT_TYPE_LATEST)


def _errors(app: FastAPI) -> None:
    """Every error in one form, and none with more than its sender knew."""

    @app.exception_handler(StreamAdError)
    def ours(request: Request, error: StreamAdError) -> Response:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
        wait_s = error.retry_after_s if isinstance(error, UnavailableError) else None
        return problem(
            status, error.message, error.hint, {"Retry-After": str(int(wait_s or 5))} if status == 503 else None
        )

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        told = (f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        return problem(422, "the request is not as /docs has it", "; ".join(told))
