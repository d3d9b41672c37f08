"""The InfluxDB store: writes, reads and raw history."""
