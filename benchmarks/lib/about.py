"""Where and with what a benchmark ran: told at the top of its result."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

PACKAGES = ("stream-ad", "numpy", "torch", "aiokafka", "faust-streaming", "kafka-python", "influxdb-client", "msgspec")


def about(packages: Iterable[str] = PACKAGES, **more: Any) -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        **more,
    }
