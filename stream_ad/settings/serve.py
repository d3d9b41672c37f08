"""The section of the settings that says where the page and the API are, and who may do what there."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from stream_ad.durations import Rate

__all__ = ["Role", "ServeSettings", "ServeUser"]

Role = Literal["read", "write", "admin"]


class ServeUser(BaseModel):
    """Who may use the page and the API. The token is a secret: it comes from the environment or a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="what they are called; their token is STREAM_AD__SERVE__TOKENS__NAME, 16 characters or more",
    )
    role: Role = Field(
        "read",
        description="read: series, scores, alerts, and the page; write: also publish readings; admin: also metrics, "
        "readiness and dead letters",
    )
    token_file: Path | None = Field(None, description="file that holds the token, where the environment does not")


class ServeSettings(BaseModel):
    """The page and the HTTP API (`stream-ad serve`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="address to bind; beyond this machine only with a user's token")
    port: int = Field(8080, ge=0, le=65535, description="port to bind; 0 = a free one, which is then said")
    access: Literal["token", "open"] = Field(
        "token", description="token: everybody shows one; open: nobody does, on this machine alone"
    )
    users: tuple[ServeUser, ...] = Field(
        (), description="[[serve.users]], below; without any a token for `admin` is made at each start, and printed"
    )
    tokens: dict[str, SecretStr] = Field(
        {}, description="only by STREAM_AD__SERVE__TOKENS__NAME, one variable a user: their token"
    )
    hosts: tuple[str, ...] = Field((), description="names by which browsers reach it, beside that of its address")
    ssl_cert_file: Path | None = Field(None, description="PEM of a certificate with its chain; it then speaks HTTPS")
    ssl_key_file: Path | None = Field(None, description="PEM of the certificate's key")
    rate: Rate = Field(
        "1200 per minute", description="requests that one user, or one address without a token, may make"
    )
    logins: Rate = Field("20 per minute", description="wrong tokens that one address may show")
    streams: int = Field(64, ge=1, description="live streams open at the same time; a page holds one")

    @model_validator(mode="after")
    def _users_make_sense(self) -> Self:
        names = [user.name for user in self.users]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"users: expected names that differ, found {twice[0]!r} twice")
        unknown = sorted(set(self.tokens) - set(names or ["admin"]))
        if unknown:
            raise ValueError(f"tokens: a token for {unknown[0]!r}, and the users are {sorted(names) or ['admin']}")
        if (self.ssl_cert_file is None) != (self.ssl_key_file is None):
            raise ValueError("expected ssl_cert_file and ssl_key_file together")
        if self.access == "open" and (self.users or self.tokens):
            raise ValueError("access is 'open', and there are users: leave one of the two out")
        if self.access == "open" and not self.local:
            raise ValueError(f"access 'open' is for this machine alone, and host is {self.host!r}: give users tokens")
        return self

    @property
    def local(self) -> bool:
        """Only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False
