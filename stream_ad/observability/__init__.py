"""What operators see of a worker: metrics, health, watchdog, logs. Nothing here may change an output."""
