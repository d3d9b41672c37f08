"""Generates the page of the metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector

from stream_ad.observability.metrics import METRICS

__all__ = ["metrics_page"]

_HEAD = """\
# Metrics, health, logs

A worker serves `/metrics`, `/healthz` and `/readyz` once it has a port: `stream-ad worker --port 9464`, or
`observability.port` ([configuration.md](configuration.md)). Without a port nothing listens, so that several workers of
a host do not collide; give each its own. It binds 127.0.0.1 unless `observability.host` names another address; there is
no password, so let only your monitoring reach it.

- `/metrics`: Prometheus text, below.
- `/healthz`: 200 `{"status": "ok" or "waiting"}`, 503 `{"status": "stalled"}`, with `reasons`. For a liveness probe: a
  store or broker that is down makes a worker wait, not unhealthy.
- `/readyz`: 200 or 503 with `ready`, `reasons` and `partitions`. A worker is ready when the rebalance is complete, its
  window buffers are rebuilt, and store, state and broker answer.

A dedicated thread serves them, so they answer while the worker is stuck. The watchdog reports a stall when the event
loop stops, or when there are unread records or a running call and no progress, for `observability.stall_after`; after
`exit_after` more it logs the reason and every stack, and exits with 1 so that a supervisor restarts the worker. Nothing
is lost by that. With `give_up_after` it also exits when a dependency stays down.

Logs go to stderr, one line per event with its time in UTC: `--log-format json` makes each a JSON object with `time`,
`level`, `logger`, `message` and the event's fields (`topic`, `partition`, `series`, ...), the libraries' lines too.

Counters start at 0 with the process. They count durable outputs; after a crash the next worker may repeat a few of
them, which leaves one copy in the store and is counted twice. Labels never hold names of series.
`make docs` generates this page from the metrics.
"""
_WATCH = {
    "process_resident_memory_bytes": "90% of what the worker may use",
    "process_open_fds": "80% of process_max_fds",
    "process_start_time_seconds": "changes often: the worker restarts again and again",
}


def metrics_page() -> str:
    """The page as Markdown."""
    lines = [_HEAD, "| metric | type | labels | meaning | look when |", "|---|---|---|---|---|"]
    for one in METRICS:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.full_name}` | {one.kind} | {labels} | {one.text} | {one.watch} |")
    for family in ProcessCollector(registry=CollectorRegistry()).collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        lines.append(f"| `{name}` | {family.type} | | {family.documentation} | {_WATCH.get(name, '')} |")
    return "\n".join([*lines, ""])
