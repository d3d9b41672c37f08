"""Many series at once, partition by partition: records in, outputs out, checkpoints and restarts."""
