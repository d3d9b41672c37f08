"""Build the services ahead, or run them for trying things by hand.

python -m tests.support.services build [kafka] [influxdb]
python -m tests.support.services run [--kafka-port N] [--influxdb-port N]
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from tests.support.services.cache import say_on_stderr
from tests.support.services.errors import ServiceError
from tests.support.services.influxdb import prepare_influxdb, running_influxdb
from tests.support.services.kafka import KAFKA_VARIABLE, prepare_kafka, running_kafka

_PREPARE = {"kafka": prepare_kafka, "influxdb": prepare_influxdb}


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _build(names: list[str]) -> None:
    for name in names or list(_PREPARE):
        _PREPARE[name](say_on_stderr)
        say_on_stderr(f"{name}: ready")


def _run(kafka_port: int | None, influxdb_port: int | None) -> None:
    with running_kafka(kafka_port) as kafka, running_influxdb(influxdb_port) as influx:
        for name, value in {KAFKA_VARIABLE: kafka, **influx.exports()}.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        say_on_stderr("both run until Ctrl-C")
        threading.Event().wait()


def main() -> int:
    """Parse the command line and do it; 1 after a clear line when a service cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.services", description="Real Kafka and InfluxDB for tests."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build what the tests need into the user's cache")
    build.add_argument("names", nargs="*", metavar="kafka|influxdb")
    run = verbs.add_parser("run", help="start both and print shell exports")
    run.add_argument("--kafka-port", type=int)
    run.add_argument("--influxdb-port", type=int)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        if arguments.verb == "build":
            unknown = set(arguments.names) - set(_PREPARE)
            if unknown:
                parser.error(f"expected kafka or influxdb, found {', '.join(sorted(unknown))}")
            _build(arguments.names)
        else:
            _run(arguments.kafka_port, arguments.influxdb_port)
    except ServiceError as error:
        say_on_stderr(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
