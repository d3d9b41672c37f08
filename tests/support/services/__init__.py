"""Real services for tests and for manual trials, built from packages and cached, or run as containers.

`kafka`, `kafka_secured`, `influxdb`, `chromium`, `toxiproxy` start one service each; `http_faults` is a proxy that
refuses writes or loses answers, `certificates` makes TLS files. Below them: `process` (start, stop, kill, pause),
`containers`, `cache` (builds), `errors`.
"""
