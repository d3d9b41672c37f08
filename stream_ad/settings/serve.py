"""Settings of the page and the HTTP API: address, users and their roles, limits."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from stream_ad.durations import Rate
from stream_ad.settings.sections import Section, check_names

__all__ = ["Role", "ServeSettings", "ServeUser"]

Role = Literal["read", "write", "admin"]


class ServeUser(Section):
    """A user of the page and the API. The token is a secret: it comes from the environment or a file."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="name; the token is STREAM_AD__SERVE__TOKENS__NAME, 16 characters or more",
    )
    role: Role = Field(
        "read",
        description="read: series, scores, alerts, and the page; write: also publish readings; admin: also metrics, "
        "readiness and dead letters",
    )
    token_file: Path | None = Field(None, description="file with the token, when the environment has none")


class ServeSettings(Section):
    """The page and the HTTP API (`stream-ad serve`)."""

    host: str = Field("127.0.0.1", description="address to bind; other hosts need a user's token")
    port: int = Field(8080, ge=0, le=65535, description="port to bind; 0 = a free one, which is printed")
    access: Literal["token", "open"] = Field(
        "token", description="token: every request needs one; open: none does, on this machine only"
    )
    users: tuple[ServeUser, ...] = Field(
        (), description="[[serve.users]], below; without any, each start creates and prints a token for `admin`"
    )
    tokens: dict[str, SecretStr] = Field(
        {}, description="only by STREAM_AD__SERVE__TOKENS__NAME, one variable per user: their token"
    )
    hosts: tuple[str, ...] = Field((), description="further host names under which browsers reach it")
    ssl_cert_file: Path | None = Field(None, description="PEM of a certificate with its chain; turns HTTPS on")
    ssl_key_file: Path | None = Field(None, description="PEM of the certificate's key")
    rate: Rate = Field("1200 per minute", description="requests of one user, or of one address without a token")
    logins: Rate = Field("20 per minute", description="wrong tokens of one address")
    streams: int = Field(64, ge=1, description="live streams open at the same time; a page needs one")

    @model_validator(mode="after")
    def _check_users(self) -> Self:
        check_names("users", [user.name for user in self.users] or ["admin"], "tokens", self.tokens)
        if (self.ssl_cert_file is None) != (self.ssl_key_file is None):
            raise ValueError("expected ssl_cert_file and ssl_key_file together")
        if self.access == "open" and (self.users or self.tokens):
            raise ValueError("access is 'open', and there are users: remove one of the two")
        if self.access == "open" and not self.local:
            raise ValueError(f"access 'open' is for this machine only, and host is {self.host!r}: give users tokens")
        return self

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False
