"""A simulated plant with faults, run through the worker's pipeline, and the report on what was found."""
