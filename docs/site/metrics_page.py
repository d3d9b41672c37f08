"""The metrics as a page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector

from stream_ad.observability.metrics import METRICS

__all__ = ["metrics_page"]

_HEAD = """\
# Metrics, health, logs

A worker serves `/metrics`, `/healthz` and `/readyz` once it has a port: `stream-ad worker --port 9464`, or
`observability.port` ([configuration.md](configuration.md)). Without one nothing listens, so that several workers of a
host do not collide; give each its own. It binds 127.0.0.1 unless `observability.host` says otherwise; there is no
password, so let only your monitoring reach it.

- `/metrics`: Prometheus text, below.
- `/healthz`: 200 `{"status": "ok" or "waiting"}`, 503 `{"status": "stalled"}`, with `reasons`. For a liveness probe: a
  store or broker that is away makes a worker wait, not unhealthy.
- `/readyz`: 200 or 503 with `ready`, `reasons` and `partitions`. Ready is a worker whose group has shared its
  partitions out, whose windows are back, and to whom store, state and broker answer.

They answer from a thread of their own, so also when the worker is stuck. The watchdog holds a worker for stuck when its
event loop does not turn, or when there are records to read or something is under way and nothing moves on, for
`observability.stall_after`; after `exit_after` more it logs why and every stack, and exits with 1 for a supervisor to
start it again. Nothing is lost by that. `give_up_after` makes it exit as well when a service stays away.

Logs go to stderr, a line an event with its time in UTC: `--log-format json` makes each a JSON object with `time`,
`level`, `logger`, `message` and the event's fields (`topic`, `partition`, `series`, ...), the libraries' lines too.

Counters start at 0 with the process. What they count is durable when it is counted; after a crash the next worker may
do a little of it again, which leaves one copy in the store and is counted twice. Labels never hold names of series.
This page is generated from the metrics themselves by `make docs`.
"""
_WATCH = {
    "process_resident_memory_bytes": "90% of what the worker may use",
    "process_open_fds": "80% of process_max_fds",
    "process_start_time_seconds": "changes often: the worker is being restarted",
}


def metrics_page() -> str:
    """The whole page, Markdown."""
    lines = [_HEAD, "| metric | type | labels | meaning | look when |", "|---|---|---|---|---|"]
    for one in METRICS:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.full_name}` | {one.kind} | {labels} | {one.text} | {one.watch} |")
    for family in ProcessCollector(registry=CollectorRegistry()).collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        lines.append(f"| `{name}` | {family.type} | | {family.documentation} | {_WATCH.get(name, '')} |")
    return "\n".join([*lines, ""])
