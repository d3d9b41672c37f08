"""Bytes to observations and back: wire formats, dead-letter reasons. No clock, no I/O, no broker."""
