"""Leftovers of clients of killed services are reported, or ignored, in the test that made them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect garbage after each test: otherwise a later test gets the warning of an unclosed file."""
    yield
    gc.collect()
