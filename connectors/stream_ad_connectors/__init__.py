"""Adapters: Kafka, InfluxDB, SQLite, files, this machine, notifiers. One folder a technology; no numerics."""
