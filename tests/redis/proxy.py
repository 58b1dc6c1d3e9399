"""A proxy between policyd and Redis that can swallow answers: the script has run, and nobody learns of it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Literal

from tests.redis.server import Server


class Proxy:
    """Listens on a UNIX socket of its own. `swallow` names a verb whose next answer is kept back."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.directory = Path(tempfile.mkdtemp(prefix="swp", dir="/var/tmp"))
        self.path = self.directory / "redis"
        self.swallow = b""
        self.how: Literal["hang", "close", "twice"] = "hang"
        self.swallowed = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def arm(self, verb: str, how: Literal["hang", "close", "twice"]) -> None:
        """Keep the next answer to `verb` back and then hang or close, or give it twice."""
        self.how, self.swallow = how, b"\r\n%s\r\n" % verb.encode()

    def close(self) -> None:
        self._listening.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, self.server.connected() as redis:
            redis.settimeout(None)
            state = {"mute": False}

            def back() -> None:
                with contextlib.suppress(OSError):
                    while data := redis.recv(65536):
                        if state["mute"]:
                            self.swallowed += 1
                            if self.how == "twice":
                                state["mute"] = False
                                client.sendall(data + data)
                            if self.how == "close":
                                client.shutdown(socket.SHUT_RDWR)
                            continue
                        client.sendall(data)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            while data := client.recv(65536):
                if self.swallow and self.swallow in data:
                    self.swallow, state["mute"] = b"", True
                redis.sendall(data)
            redis.shutdown(socket.SHUT_RDWR)
            thread.join(5)
