"""What was freed within the process is free for others."""

from __future__ import annotations

import ctypes

import psutil
import pytest

from stream_ad.observability.monitor import give_back


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_holes_between_what_stays_are_given_back() -> None:
    process = psutil.Process()
    blocks = [bytes(4096) for _ in range(20_000)]
    stays = blocks[::16]
    del blocks
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > 40_000_000
    assert len(stays) == 1250
