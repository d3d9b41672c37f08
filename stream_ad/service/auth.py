"""Authentication and authorisation: tokens, roles, browser sessions, rate limits, protection against CSRF.

A program sends `Authorization: Bearer TOKEN`. A browser sends its token once, to /login or in the link that `serve`
prints, and then a signed HttpOnly cookie, which changes nothing on requests from another site.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from stream_ad.durations import rate_per_s
from stream_ad.errors import ConfigError
from stream_ad.settings import Role, Settings

__all__ = ["Access", "Admin", "Principal", "Rate", "Reader", "RefusedError", "Writer"]

ROLES: tuple[Role, ...] = ("read", "write", "admin")
MAX_ADDRESSES = 10_000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Principal:
    """A user of the settings."""

    name: str
    role: Role

    def has_role(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class RefusedError(Exception):
    """A refused request: the HTTP status, the reason, and the seconds after which a retry may succeed."""

    def __init__(self, status: int, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after_s = status, reason, retry_after_s


@dataclass
class Rate:
    """Token buckets by name: `burst` tokens, refilled at `per_s`; the least recently used names are dropped."""

    burst: float
    per_s: float
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait_s(self, name: str, *, consume: bool = True) -> float:
        """0 = allowed (and, with `consume`, one token less); else the seconds until a token is free."""
        now = self.clock()
        left, since = self._buckets.pop(name, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.per_s)
        allowed = left >= 1.0
        self._buckets[name] = (left - 1.0 if allowed and consume else left, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self.per_s


def _rate(text: str) -> Rate:
    return Rate(float(text.partition(" per ")[0]), rate_per_s(text))


class Access:
    """Access control by the settings `serve`. `generated`: the token of this process where the settings have none.

    ConfigError when a user has no token, or when other machines could connect without one.
    """

    def __init__(self, settings: Settings) -> None:
        serve = settings.serve
        self.open = serve.access == "open"
        self.generated: str | None = None
        tokens = {user.name: settings.serve_token(user) for user in serve.users}
        roles = {user.name: user.role for user in serve.users}
        if not self.open and not tokens:
            tokens, roles = {"admin": self._single_token(settings)}, {"admin": "admin"}
        self._users = {name: (_digest(token), Principal(name, roles[name])) for name, token in tokens.items()}
        self.key = _digest("session:" + ":".join(sorted(tokens.values()))).hex() if tokens else secrets.token_hex()
        self._requests, self._failures = _rate(serve.rate), _rate(serve.logins)

    def _single_token(self, settings: Settings) -> str:
        given = settings.serve.tokens.get("admin")
        if given is not None:
            return given.get_secret_value()
        if not settings.serve.local:
            raise ConfigError(
                f"serve.host is {settings.serve.host!r}, and no user has a token",
                hint="set STREAM_AD__SERVE__TOKENS__ADMIN, or add [[serve.users]], each with a token",
            )
        self.generated = secrets.token_urlsafe(24)
        return self.generated

    def by_token(self, token: str, address: str) -> Principal:
        """The user of a token. RefusedError 401: unknown token; 429: too many unknown ones from this address."""
        wait_s = self._failures.wait_s(address, consume=False)
        if wait_s:
            raise RefusedError(429, "too many wrong tokens", wait_s)
        found, given = None, _digest(token)
        for digest, principal in self._users.values():  # all of them: the time must not depend on the token
            if hmac.compare_digest(digest, given):
                found = principal
        if found is None:
            self._failures.wait_s(address)
            raise RefusedError(401, "unknown token")
        return found

    def authenticate(self, scope: Scope) -> Principal | None:
        """The user of a request; None = anonymous. RefusedError: a wrong token, too many requests, or another site."""
        headers, address = Headers(scope=scope), (scope.get("client") or ("?", 0))[0]
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self.open:
            user: Principal | None = Principal("local", "admin")
            self._same_site(scope, headers)
        elif scheme:
            if scheme.lower() != "bearer":
                raise RefusedError(401, "expected Authorization: Bearer TOKEN")
            user = self.by_token(token.strip(), address)
        else:
            user = self._users.get(scope["session"].get("user"), (b"", None))[1]
            self._same_site(scope, headers)
        wait_s = self._requests.wait_s(f"user {user.name}" if user and not self.open else f"address {address}")
        if wait_s:
            raise RefusedError(429, "too many requests", wait_s)
        return user

    def _same_site(self, scope: Scope, headers: Headers) -> None:
        """CSRF: refuses a change that a page of another site requests with the cookie of the browser."""
        if scope["method"] in SAFE_METHODS:
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        # Browsers send Sec-Fetch-Site, older ones Origin; programs send neither, and have no session.
        own = site in ("same-origin", "none") if site else origin is None or urlsplit(origin).netloc == headers["host"]
        if not own:
            raise RefusedError(403, "another site requested this change")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _requires(role: Role) -> Callable[..., Principal]:
    """A route dependency: the user of the request. HTTP 403 without the role."""

    def principal(request: Request) -> Principal:
        found: Principal = request.state.principal
        if not found.has_role(role):
            raise HTTPException(403, f"expected the role {role}, found {found.role} of user {found.name}")
        return found

    return principal


Reader = Annotated[Principal, Depends(_requires("read"))]
Writer = Annotated[Principal, Depends(_requires("write"))]
Admin = Annotated[Principal, Depends(_requires("admin"))]
