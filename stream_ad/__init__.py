"""Streaming anomaly detection for time series: Kafka in, scores and alerts out.

`Client` speaks to a running installation, `Detector` scores in a notebook, `score_array` an array in a benchmark. They
are imported on first use, so that `import stream_ad` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_ad.sdk.arrays import score_array
    from stream_ad.sdk.client import Client
    from stream_ad.sdk.detector import Detector

__all__ = ["Client", "Detector", "__version__", "score_array"]

__version__ = "0.1.0"

_LAZY = {"Client": "stream_ad.sdk.client", "Detector": "stream_ad.sdk.detector", "score_array": "stream_ad.sdk.arrays"}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
