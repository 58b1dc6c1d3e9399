"""Real Redis servers for tests: in a private directory, on a UNIX socket or loopback, ended by their id."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path


class Server:
    """One redis-server (or a Sentinel, with `config`). Options are those of redis.conf."""

    def __init__(self, *options: str, port: int = 0, config: str = "") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="swr", dir="/var/tmp"))
        self.socket = self.directory / "redis"
        self.port = port
        self._numbers = count()
        self._config = config
        self.options = list(options)
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    def start(self, *, ready: bool = True) -> Server:
        command = ["redis-server"]
        if self._config:
            path = self.directory / "sentinel.conf"
            path.write_text(self._config)
            command += [str(path), "--sentinel", "--port", str(self.port)]
        else:
            command += ["--port", str(self.port), "--unixsocket", str(self.socket), "--save", ""]
        command += ["--dir", str(self.directory), "--bind", "127.0.0.1", *self.options]
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        while ready and not self.answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        try:
            return self.ask("PING") not in ("", None)
        except OSError:
            return False

    def ask(self, *words: str) -> str:
        """One command in the RESP protocol; its answer as it came."""
        with self.connected() as connection:
            packed = b"*%d\r\n" % len(words)
            packed += b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)
            connection.sendall(packed)
            time.sleep(0)
            answer = connection.recv(1 << 20)
            return answer.decode("utf-8", "replace").strip()

    def connected(self) -> socket.socket:
        if self.port:
            return socket.create_connection(("127.0.0.1", self.port), 5)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        try:
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def prefix(self) -> str:
        """A key prefix that no test had before."""
        return f"t{next(self._numbers)}:"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def send(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
                self.send(number)
            self.process.wait(10)
            self.process = None

    def remove(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on; below 55,536, as a Cluster's Redis needs it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_536:
            return port


_running: list[Server] = []


def running() -> Server:
    """The server that tests share, each with a prefix of its own. Nothing is persisted."""
    if not _running:
        if shutil.which("redis-server") is None:
            raise RuntimeError("redis-server is missing: apt-get install redis-server")
        _running.append(Server().start())
    return _running[0]
