"""Sources, sinks and stores within one process."""
