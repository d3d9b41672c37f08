"""Processes that a benchmark looks at from outside: whose they are, and what they used."""

from __future__ import annotations

from urllib.parse import urlsplit

import psutil


def listener(address: str) -> psutil.Process | None:
    """The process that listens at an address of this machine, if it may be seen."""
    port = urlsplit(f"//{address}").port
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and getattr(found.laddr, "port", None) == port and found.pid:
            return psutil.Process(found.pid)
    return None


def cpu_s(process: psutil.Process | None) -> float | None:
    """User and system together; None of no process."""
    if process is None:
        return None
    times = process.cpu_times()
    return float(times.user + times.system)
