"""What a client of a killed service leaves behind is told of, or passed over, where it was made."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collects garbage after each test: an unclosed file is else blamed on whatever test runs then."""
    yield
    gc.collect()
