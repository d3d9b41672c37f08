"""`check`: a dry run that prints one finding per dependency, with a hint where one is wrong."""

from __future__ import annotations

from dataclasses import asdict

import typer

from stream_ad.cli.common import Json, emit_json, options_of

__all__ = ["command"]


def command(context: typer.Context, as_json: Json = False) -> None:
    """Check config, broker, topics, records, store and models without changing anything."""
    from stream_ad.cli.diagnostics import checkup

    findings = []
    for finding in checkup(options_of(context).config):
        findings.append(finding)
        if not as_json:
            hint = f" — {finding.hint}" if finding.hint else ""
            print(f"{'ok     ' if finding.ok else 'WRONG  '}{finding.name}: {finding.text}{hint}", flush=True)
    if as_json:
        emit_json([asdict(finding) | {"mend": finding.hint} for finding in findings])  # "mend": an older key
    code = max((finding.exit_code for finding in findings), default=0)
    if code:
        raise typer.Exit(code)
