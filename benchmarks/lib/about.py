"""What the benchmarks share: arguments, the facts at the top of a result, and writing it."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
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


def argument_parser(doc: str | None) -> argparse.ArgumentParser:
    """With --out; the caller adds its options."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the result")
    return parser


def write_result(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
