"""The console script: global options, the verbs, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stream_ad.cli import (
    alerts,
    backtest,
    check,
    demo,
    dlq,
    fit,
    init,
    replay,
    scores,
    serve,
    status,
    subscribe,
    train,
    worker,
)
from stream_ad.cli.common import Options, say
from stream_ad.errors import StreamAdError

__all__ = ["app", "main", "run"]

INTERRUPTED = 130
_FLOATING = ("-c", "--config")

app = typer.Typer(
    name="stream-ad",
    help="Streaming time-series anomaly detection: Kafka in, diffusion imputation scores and alerts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("stream-ad"))
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The TOML file; ./stream-ad.toml when it is there.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = Options(config, debug)


for _verb in (init, check, demo, worker, serve, fit, train, backtest, subscribe, replay, scores, alerts, status):
    app.command(_verb.__name__.rpartition(".")[2])(_verb.command)
app.add_typer(dlq.commands, name="dlq")


def main() -> None:
    """Entry point of `stream-ad`."""
    sys.exit(run())


def run(args: Sequence[str] | None = None) -> int:
    """Runs one command line; its exit code: 0 ok, 1 failed, 2 usage or config, 130 interrupted."""
    argv = _global_first(sys.argv[1:] if args is None else args)
    debug = "--debug" in argv
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not debug:
        for library in ("kafka", "aiokafka"):  # they warn of slow callbacks and retries; what matters comes as an error
            logging.getLogger(library).setLevel(logging.ERROR)
    try:
        app(argv, prog_name="stream-ad")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except StreamAdError as error:
        return _failed(error, str(error), debug, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit does not flush into it again
        return 1
    except Exception as error:  # noqa: BLE001  # the outermost place: nothing else turns the unexpected into a line
        hint = "" if debug else " — this was not expected; --debug shows where it came from"
        return _failed(error, f"{type(error).__name__}: {error}{hint}", debug, 1)
    return 0


def _failed(error: BaseException, text: str, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exception(error)
    say(f"error: {' '.join(text.split())}")
    return code


def _global_first(args: Sequence[str]) -> list[str]:
    """Global options may also stand behind the verb."""
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(args):
        arg = args[at]
        if arg == "--":
            return [*front, *rest, *args[at:]]
        if arg in _FLOATING and at + 1 < len(args):
            front += [arg, args[at + 1]]
            at += 1
        elif arg == "--debug" or arg.startswith("--config="):
            front.append(arg)
        else:
            rest.append(arg)
        at += 1
    return front + rest
