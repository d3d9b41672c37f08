"""What the scorers of this package share: their steps, as the Scorer port names them, and the checks of their input."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import ConfigError, DataError
from stream_ad.ports import Session, Window
from stream_ad_models.defaults import WINDOW_STEPS

__all__ = ["WindowScorer", "check_steps"]

AnySession = TypeVar("AnySession", bound=Session)


def check_steps(name: str, steps: int, hop: int, most: int) -> None:
    if steps % hop or not 0 <= steps <= most:
        raise ConfigError(f"{name}: expected a multiple of {hop} from 0 to {most}, found {steps}")


class WindowScorer:
    """Subclasses set name, version and lookback_steps, and implement fit, open and score."""

    name: str
    version: str
    lookback_steps: int

    def __init__(self, hop_steps: int, delay_steps: int, *, most_delay: int, window_steps: int = WINDOW_STEPS) -> None:
        check_steps("delay_steps", delay_steps, hop_steps, most_delay)
        self.window_steps, self.hop_steps, self.delay_steps = window_steps, hop_steps, delay_steps

    def check_history(self, history: NDArray[np.float32]) -> None:
        if history.ndim != 2 or len(history) < self.window_steps:
            raise DataError(f"history: expected at least {self.window_steps} rows, found shape {list(history.shape)}")

    def check_window(self, session: Session, window: Window, kind: type[AnySession]) -> AnySession:
        """The session, which must be one that `open` returned, for a window of its shape."""
        if not isinstance(session, kind):
            raise TypeError(f"session: expected one that {type(self).__name__}.open returned, found {type(session)}")
        expected = (self.window_steps, session.channels)
        if window.rows.shape != expected:
            raise DataError(f"window: expected shape {list(expected)}, found {list(window.rows.shape)}")
        return session
