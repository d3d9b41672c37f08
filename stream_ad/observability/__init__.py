"""Metrics, health, watchdog and logs of a worker. Nothing here may change an output."""
