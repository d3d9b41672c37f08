"""Event time to slot, buffer and window of one series. Pure: no clock, no I/O, no scores."""
