"""The console script: global options, the commands, and the one place that turns errors into exit codes."""

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
        Path | None, typer.Option("--config", "-c", help="The TOML file; by default ./stream-ad.toml, if it exists.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
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
        for library in (
            "kafka",
            "aiokafka",
        ):  # their warnings (slow callbacks, retries) are noise: failures arrive as errors
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
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter flushes into the broken pipe at exit
        return 1
    except Exception as error:  # noqa: BLE001  # outermost frame: a defect becomes one line too
        hint = "" if debug else " — this was not expected; --debug prints the traceback"
        return _failed(error, f"{type(error).__name__}: {error}{hint}", debug, 1)
    return 0


def _failed(error: BaseException, text: str, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exception(error)
    say(f"error: {' '.join(text.split())}")
    return code


def _global_first(args: Sequence[str]) -> list[str]:
    """Moves --config and --debug before the command, so that users may also write them after it."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(args)
    for arg in left:
        if arg == "--":
            return [*front, *rest, arg, *left]
        if arg in ("-c", "--config"):
            value = next(left, None)
            (rest if value is None else front).extend([arg] if value is None else [arg, value])
        else:
            (front if arg == "--debug" or arg.startswith("--config=") else rest).append(arg)
    return front + rest
