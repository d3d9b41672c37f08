"""Faults against running workers, then the store against an undisturbed run: what the tests and the benchmark share."""

from tests.support.drills.outcome import Outcome
from tests.support.drills.run import Plan, run_drill
from tests.support.drills.world import World

__all__ = ["Outcome", "Plan", "World", "run_drill"]
