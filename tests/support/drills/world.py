"""A broker and a store, each behind a proxy that injects network faults; they serve one drill after another."""

from __future__ import annotations

import errno
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from tests.support.services.http_faults import HttpFaults
from tests.support.services.influxdb import InfluxServer
from tests.support.services.kafka import KafkaServer
from tests.support.services.process import HOST, free_ports
from tests.support.services.toxiproxy import ToxiproxyServer

__all__ = ["SmallDisk", "World"]


class SmallDisk:
    """A file system of a few megabytes in memory, to be filled; mounting it needs root."""

    def __init__(self, megabytes: int = 96) -> None:
        self.path = Path(mkdtemp(prefix="stream-ad-disk-"))
        self._megabytes = megabytes
        self._filler = self.path / "filler"

    def __enter__(self) -> Self:
        options = f"size={self._megabytes}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], check=True, capture_output=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)
        self.path.rmdir()

    def fill(self) -> None:
        """To the last byte."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


class World:
    """Workers connect through the proxies; the observing test connects to `broker` and `store` directly."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            proxy = stack.enter_context(ToxiproxyServer())
            inner = free_ports(1)[0]
            self.kafka_link = proxy.link("kafka", f"{HOST}:{inner}")
            self.broker = stack.enter_context(KafkaServer(second=(inner, self.kafka_link.address)))
            self.store = stack.enter_context(InfluxServer())
            self.store.setup()
            self.store_link = proxy.link("influxdb", self.store.address)
            self.http = stack.enter_context(HttpFaults(self.store_link.address))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def kafka_address(self) -> str:
        """The broker's address for workers."""
        return self.kafka_link.address

    @property
    def store_url(self) -> str:
        """The store's address for workers."""
        return f"http://{self.http.address}"
