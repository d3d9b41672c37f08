"""Faults against running workers, then the store against an undisturbed run: what the tests and the benchmark share."""

from tests.integration.drills.outcome import Outcome
from tests.integration.drills.run import Plan, run_drill
from tests.integration.drills.world import World

__all__ = ["Outcome", "Plan", "World", "run_drill"]
