"""Real Kafka and real InfluxDB for tests and for trying things by hand."""
