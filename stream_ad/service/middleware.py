"""ASGI middleware: access control, security headers, metrics."""

from __future__ import annotations

import logging
import math
import time
from urllib.parse import quote, urlencode

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from starlette.datastructures import MutableHeaders, QueryParams
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_ad.service.auth import Access, RefusedError

__all__ = ["AccessMiddleware", "HttpMetrics", "problem"]

log = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/healthz", "/login", "/static/app.css", "/static/icon.svg"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self' data:; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class HttpMetrics:
    """Metrics of requests by route; addresses and series are no labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels, registry = ("route", "status"), self.registry
        self.requests = Counter("stream_ad_http_requests", "Requests answered.", labels, registry=registry)
        self.seconds = Histogram("stream_ad_http_seconds", "Time to the first byte.", ("route",), registry=registry)
        self.refused = Counter(
            "stream_ad_http_refused", "Requests refused by access or rate.", ("status",), registry=registry
        )
        ProcessCollector(registry=registry)


def problem(status: int, title: str, detail: str = "", headers: dict[str, str] | None = None) -> Response:
    """An error response as RFC 9457 defines it."""
    body = {"status": status, "title": title, **({"detail": detail} if detail else {})}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


class AccessMiddleware:
    """Sets `request.state.principal`, refuses, adds headers and counts. Must run inside SessionMiddleware."""

    def __init__(self, app: ASGIApp, access: Access, metrics: HttpMetrics, *, https: bool) -> None:
        self._app, self._access, self._metrics = app, access, metrics
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                self._count(scope, status, time.perf_counter() - begun)
            await send(message)

        await (self._refused(scope) or self._app)(scope, receive, sent)

    def _refused(self, scope: Scope) -> Response | None:
        """The response to a refused request; None = allowed."""
        try:
            user = self._access.authenticate(scope)
            scope.setdefault("state", {})["principal"] = user
            path = scope["path"]
            if path in OPEN_PATHS:
                return None
            if user is None:
                return self._sign_in(scope)
        except RefusedError as refusal:
            self._metrics.refused.labels(str(refusal.status)).inc()
            headers = {"Retry-After": str(math.ceil(refusal.retry_after_s))} if refusal.retry_after_s else {}
            if refusal.status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            return problem(refusal.status, refusal.reason, headers=headers)
        return None

    def _sign_in(self, scope: Scope) -> Response:
        """Turns a link with a token, as `serve` prints it, into a session; sends other browsers to /login."""
        query, path = QueryParams(scope["query_string"]), scope["path"]
        page = scope["method"] == "GET" and not path.startswith(
            ("/api/", "/metrics", "/readyz", "/openapi", "/static/")
        )
        if page and "token" in query:
            address = (scope.get("client") or ("?", 0))[0]
            scope["session"]["user"] = self._access.by_token(query["token"], address).name
            rest = urlencode([(name, value) for name, value in query.multi_items() if name != "token"])
            return RedirectResponse(quote(path) + (f"?{rest}" if rest else ""), 303)
        if page:
            query_string = scope["query_string"].decode("latin-1")
            target = quote(path) + (f"?{query_string}" if query_string else "")
            return RedirectResponse(f"/login?{urlencode({'next': target})}", 303)
        raise RefusedError(401, "expected Authorization: Bearer TOKEN")

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        log.debug("%s %s %d %.0f ms", scope["method"], scope["path"], status, 1000 * seconds)
