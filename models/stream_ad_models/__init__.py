"""Numerics: imputer, memory, scorer, baselines, their training. Arrays in, arrays out: no clock, no I/O but weights."""
