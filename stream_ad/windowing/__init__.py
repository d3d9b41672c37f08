"""Event time to slots, buffer and windows of one series. Pure: no clock, no I/O, no scores."""
