"""Who asks, and whether they may: tokens, roles, sessions of browsers, rates, and where a change may come from.

A program shows `Authorization: Bearer TOKEN`. A browser shows its token once, to /login or in the link that `serve`
prints, and then a signed cookie, which no script can read. The cookie changes nothing that another site asks for.
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

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class RefusedError(Exception):
    """The request goes no further: an HTTP status, why, and after how long it may come again."""

    def __init__(self, status: int, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after_s = status, reason, retry_after_s


@dataclass
class Rate:
    """Token buckets by name: `burst` at once, then `per_s`. The names asked for longest ago are forgotten."""

    burst: float
    per_s: float
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait_s(self, name: str, *, take: bool = True) -> float:
        """0 = go on; else after how long to come again."""
        now = self.clock()
        left, since = self._buckets.pop(name, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.per_s)
        allowed = left >= 1.0
        self._buckets[name] = (left - 1.0 if allowed and take else left, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self.per_s


def _rate(text: str) -> Rate:
    return Rate(float(text.partition(" per ")[0]), rate_per_s(text))


class Access:
    """What the section `serve` says of who may do what. `made`: the token of this start, where the settings have none.

    ConfigError when a user has no token, or when others than this machine could come without one.
    """

    def __init__(self, settings: Settings) -> None:
        serve = settings.serve
        self.open = serve.access == "open"
        self.made: str | None = None
        tokens = {user.name: settings.serve_token(user) for user in serve.users}
        roles = {user.name: user.role for user in serve.users}
        if not self.open and not tokens:
            tokens, roles = {"admin": self._lone_token(settings)}, {"admin": "admin"}
        self._users = {name: (_digest(token), Principal(name, roles[name])) for name, token in tokens.items()}
        self.key = _digest("session:" + ":".join(sorted(tokens.values()))).hex() if tokens else secrets.token_hex()
        self._requests, self._failures = _rate(serve.rate), _rate(serve.logins)

    def _lone_token(self, settings: Settings) -> str:
        given = settings.serve.tokens.get("admin")
        if given is not None:
            return given.get_secret_value()
        if not settings.serve.local:
            raise ConfigError(
                f"serve.host is {settings.serve.host!r}, and nobody has a token",
                hint="set STREAM_AD__SERVE__TOKENS__ADMIN, or add [[serve.users]], each with a token",
            )
        self.made = secrets.token_urlsafe(24)
        return self.made

    def by_token(self, token: str, address: str) -> Principal:
        """RefusedError 401 when it is nobody's, 429 when the address has shown too many such."""
        wait_s = self._failures.wait_s(address, take=False)
        if wait_s:
            raise RefusedError(429, "too many wrong tokens", wait_s)
        found, shown = None, _digest(token)
        for digest, who in self._users.values():  # all of them, so that time tells nothing
            if hmac.compare_digest(digest, shown):
                found = who
        if found is None:
            self._failures.wait_s(address)
            raise RefusedError(401, "this token is nobody's")
        return found

    def who(self, scope: Scope) -> Principal | None:
        """Who sends the request; None = nobody known. RefusedError when it may not be answered whoever it is."""
        headers, address = Headers(scope=scope), (scope.get("client") or ("?", 0))[0]
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self.open:
            who: Principal | None = Principal("everybody here", "admin")
            self._same_site(scope, headers)
        elif scheme:
            if scheme.lower() != "bearer":
                raise RefusedError(401, "expected Authorization: Bearer TOKEN")
            who = self.by_token(token.strip(), address)
        else:
            who = self._users.get(scope["session"].get("user"), (b"", None))[1]
            self._same_site(scope, headers)
        wait_s = self._requests.wait_s(f"user {who.name}" if who and not self.open else f"address {address}")
        if wait_s:
            raise RefusedError(429, "too many requests", wait_s)
        return who

    def _same_site(self, scope: Scope, headers: Headers) -> None:
        """What a browser sends by itself proves nothing: a change must come from a page of ours."""
        if scope["method"] in SAFE_METHODS:
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        # Browsers that do not tell the site tell the origin; programs tell neither, and have no session.
        ours = site in ("same-origin", "none") if site else origin is None or urlsplit(origin).netloc == headers["host"]
        if not ours:
            raise RefusedError(403, "this change was asked for by another site")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _needs(role: Role) -> Callable[..., Principal]:
    """A dependency of a route: who asks, once it is known that they may."""

    def who(request: Request) -> Principal:
        found: Principal = request.state.who
        if not found.may(role):
            raise HTTPException(403, f"expected the role {role}, found {found.role} of user {found.name}")
        return found

    return who


Reader = Annotated[Principal, Depends(_needs("read"))]
Writer = Annotated[Principal, Depends(_needs("write"))]
Admin = Annotated[Principal, Depends(_needs("admin"))]
