"""What can go wrong while a real service is obtained or started.

ServiceError
├── ServiceUnavailableError   it cannot be had here: a test skips (in CI it fails)
│   └── BuildError            a build from packages failed, the message names its log
└── StartError                it was there and did not come up: always a failure
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "BuildError",
    "ServiceError",
    "ServiceUnavailableError",
    "StartError",
    "in_ci",
    "require",
    "skip_if_unavailable",
]


class ServiceError(Exception):
    """Base of this package's errors."""


class ServiceUnavailableError(ServiceError):
    """The service cannot be had on this machine."""


class BuildError(ServiceUnavailableError):
    """Building the service from packages failed."""


class StartError(ServiceError):
    """The service was started and did not become ready."""


def in_ci() -> bool:
    """True when the environment says that this is a CI run."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false", "no"}


def require(service: str, variable: str, *programs: str) -> None:
    """Raise one clear line when a program that `service` needs is not on PATH."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise ServiceUnavailableError(
            f"{service} is not available: {', '.join(missing)} not found on PATH "
            f"(install what is missing, or set {variable} to a running {service})"
        )


@contextmanager
def skip_if_unavailable() -> Iterator[None]:
    """Skip the running test when a service cannot be had; in CI fail it."""
    import pytest

    try:
        yield
    except ServiceUnavailableError as error:
        if in_ci():
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        raise pytest.skip.Exception(str(error)) from None
