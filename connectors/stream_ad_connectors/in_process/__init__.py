"""Sources and sinks within one process."""
