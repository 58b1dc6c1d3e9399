"""Processes with sockets: a short directory for them, and the echo service started in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `condition` holds; the deadline is only there to end a broken run."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def ask(address: str | tuple[str, int], line: bytes, seconds: float = 20.0) -> bytes:
    """One line to a server and its answer."""
    with connect(address, seconds) as connection:
        connection.sendall(line + b"\n")
        return connection.makefile("rb").readline()


def is_refused(address: str | tuple[str, int]) -> bool:
    """Whether a connection is closed without an answer."""
    try:
        return ask(address, b"hi") == b""
    except ConnectionError:
        return True


def connect(address: str | tuple[str, int], seconds: float = 20.0) -> socket.socket:
    """A connection to a path or a host and port."""
    connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    connection.settimeout(seconds)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


class Echo:
    """The echo service as a process."""

    def __init__(self, directory: Path, settings: str, prefix: tuple[str, ...] = (), **options) -> None:
        self.directory = directory
        self.settings = directory / "settings.yaml"
        self.socket = str(directory / "s")
        self.log = directory / f"log{len(list(directory.glob('log*')))}"
        self.write(settings)
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "tests.sidecar.echo_service", str(self.settings)],
                stderr=log,
                env=environ,
                cwd=ROOT,
                **options,
            )

    def write(self, settings: str) -> None:
        self.settings.write_text(settings.replace("SOCKET", f"unix:{self.socket}"))

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def said(self, text: str) -> int:
        return sum(text in line for line in self.lines())

    def ready(self) -> Echo:
        wait_until(lambda: self.said("event=start ") or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    path = tempfile.mkdtemp(prefix="sw", dir="/var/tmp")
    yield Path(path)
    shutil.rmtree(path)


@pytest.fixture
def echo(directory) -> Iterator[Callable[..., Echo]]:
    """Start echo services; what still runs at the end is killed."""
    started: list[Echo] = []

    def start(settings: str = "version: 1\nlisten: {policy: [SOCKET]}\n", **options) -> Echo:
        started.append(Echo(options.pop("directory", directory), settings, **options))
        return started[-1]

    yield start
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
        service.process.wait()
