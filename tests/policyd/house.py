"""A policyd for tests: a private directory, the service on real sockets, and a client as Postfix is.

The service runs in the reactor of the test, with the real YAML directory and SQLite ledger unless a test
hands in others; `Process` runs the door as a process of its own.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from policyd.service import PolicyService
from policyd.settings import Settings, load_settings
from policyd.wire import encode_request, parse_answer
from sidecar.log import Log
from sidecar.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "transcripts" / "policy" / "fixtures"
PATIENCE = 12.0

DEFAULTS = {
    "request": "smtpd_access_policy",
    "protocol_state": "RCPT",
    "sender": "alice@example.org",
    "recipient": "someone@elsewhere.example",
    "client_address": "198.51.100.7",
    "sasl_username": "alice",
    "encryption_protocol": "TLSv1.3",
    "instance": "1a2b.66.7d0.0",
}


def attributes(**changes: object) -> dict[str, str]:
    """A request as alice makes it, with changes."""
    return {name: str(value) for name, value in {**DEFAULTS, **changes}.items()}


@contextmanager
def private_directory(fixture: str = "standard") -> Iterator[Path]:
    """A short-named directory holding a fixture's settings and principals."""
    made = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    try:
        for source in (FIXTURES / fixture).iterdir():
            text = source.read_text(encoding="utf-8").replace("${DIRECTORY}", str(made))
            (made / source.name).write_text(text, encoding="utf-8")
        yield made
    finally:
        shutil.rmtree(made)


class Client:
    """One connection of Postfix: a request out, one answer in, in blocking calls."""

    def __init__(self, path: Path | str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._held = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> str | None:
        """The next answer, None when the connection ends without one."""
        while parse_answer(self._held) is None:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                assert not self._held, f"half an answer: {self._held!r}"
                return None
            self._held += more
        answer = parse_answer(self._held)
        self._held = self._held.partition(b"\n\n")[2]
        return answer

    def ask(self, **changes: object) -> str | None:
        self.send(encode_request(attributes(**changes)))
        return self.read()

    def close(self) -> None:
        self.socket.close()

    __del__ = close


class House:
    """A running service in the test's reactor."""

    def __init__(self, directory: Path, **stores: Any) -> None:
        self.directory = directory
        self.log = io.StringIO()
        self.settings: Settings = load_settings(directory / "config.yaml")
        self.service = PolicyService(
            self.settings,
            reactor=reactor,
            log=Log(self.log, program="policyd", level="debug"),
            metrics=Metrics(),
            load=lambda: load_settings(directory / "config.yaml"),
            **stores,
        )
        self.judge = self.service._judge
        self.service.start()
        self.ports = [
            reactor.listenUNIX(listener.path, self.service.factory(listener))  # type: ignore[attr-defined]
            for listener in self.settings.listen.policy
        ]
        self.policy, self.mx = directory / "policy", directory / "mx"

    def in_thread(self, function: Any, *arguments: Any) -> Deferred[Any]:
        """Run what blocks, beside the service."""
        return deferToThread(function, *arguments)

    def ask(self, **changes: object) -> Deferred[str | None]:
        """One request on a connection of its own."""

        def ask() -> str | None:
            client = Client(self.policy)
            try:
                return client.ask(**changes)
            finally:
                client.close()

        return self.in_thread(ask)

    def lines(self, event: str) -> list[str]:
        """The log lines of one event."""
        return [line for line in self.log.getvalue().splitlines() if f"event={event} " in line + " "]

    async def stop(self) -> None:
        for port in self.ports:
            await port.stopListening()
        await self.service.drain()


class Process:
    """The door of policyd as a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.policy = directory / "policy"
        self.log = directory / "log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "policyd", "--settings", str(directory / "config.yaml")],
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.wait_for("event=start")

    def wait_for(self, text: str, times: int = 1) -> str:
        """Wait until the log holds `text`."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            said = self.log.read_text()
            if said.count(text) >= times:
                return said
            assert self.child.poll() is None, said
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not said within {PATIENCE} s:\n{self.log.read_text()}")

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def end(self) -> int:
        """SIGTERM; returns the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.child.wait(PATIENCE)
