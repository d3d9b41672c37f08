"""Builds the InfluxDB 2.7 server, with Flux, from the Go module proxy and crates.io (about 7 minutes on two cores)."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tests.support.services.cache import Build, Say, cached, say_on_stderr
from tests.support.services.errors import require

__all__ = ["INFLUXDB_VERSION", "influxd_path"]

INFLUXDB_VERSION = "2.7.12"
_SUMMARY = "InfluxDB 2.7 from source: about 7 minutes on two cores"

_SERVER = "github.com/influxdata/influxdb/v2/cmd/influxd"
_PKG_CONFIG = "github.com/influxdata/pkg-config"
# InfluxDB's own go.mod has this replacement, and Go ignores a dependency's replacements.
_REPLACE = (
    "github.com/nats-io/nats-streaming-server@v0.11.2="
    "github.com/influxdata/nats-streaming-server@v0.11.3-0.20201112040610-c277f7560803"
)
_TOOLS_GO = f"""//go:build tools

package tools

import (
\t_ "{_SERVER}"
\t_ "{_PKG_CONFIG}"
)
"""
# Flux's default feature `strict` makes the warnings of compilers newer than it into errors.
_CARGO = """#!/bin/sh
exec cargo "$@" -p flux --no-default-features --features cffi
"""


def influxd_path(say: Say = say_on_stderr) -> Path:
    """The server's binary, built on first use."""
    return cached("influxdb", INFLUXDB_VERSION, _build, say, summary=_SUMMARY) / "influxd"


def _build(build: Build) -> None:
    require("InfluxDB", "STREAM_AD_TEST_INFLUXDB_URL", "go", "cargo", "gcc", "pkg-config")
    with tempfile.TemporaryDirectory(prefix="stream-ad-influxdb-") as name:
        work = Path(name)
        cargo = work / "cargo"
        cargo.write_text(_CARGO)
        cargo.chmod(0o755)
        module = work / "module"
        module.mkdir()
        (module / "tools.go").write_text(_TOOLS_GO)
        tools = work / "bin"
        env = {
            "CARGO": str(cargo),
            "CGO_ENABLED": "1",
            "GOBIN": str(tools),
            "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=mod".strip(),
            "PKG_CONFIG": str(tools / "pkg-config"),
            # Flux pins an old toolchain, which need not be installed.
            "RUSTUP_TOOLCHAIN": os.environ.get("RUSTUP_TOOLCHAIN", "stable"),
        }
        binary = work / "influxd"
        steps = (
            ("go mod init", ["go", "mod", "init", "stream-ad.test/influxdb"]),
            ("go mod edit", ["go", "mod", "edit", f"-replace={_REPLACE}"]),
            ("go get", ["go", "get", f"github.com/influxdata/influxdb/v2@v{INFLUXDB_VERSION}"]),
            ("go mod tidy", ["go", "mod", "tidy"]),
            ("pkg-config", ["go", "install", _PKG_CONFIG]),
            (
                "server and Flux",
                ["go", "build", "-tags", "sqlite_foreign_keys,sqlite_json", "-o", str(binary), _SERVER],
            ),
        )
        for title, command in steps:
            build.run(title, command, cwd=module, env=env)
        shutil.copy2(binary, build.target / "influxd")
