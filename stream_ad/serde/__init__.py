"""Bytes to observations and back: wire formats and dead-letter reasons. No clock, no I/O, no broker."""
