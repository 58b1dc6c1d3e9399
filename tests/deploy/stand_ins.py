"""Servers that stand where Postfix asks: some let everybody pass, and some would let nobody.

Knows what smtpd says to a policy, an auth and a milter socket. Must not know of the graft.
"""

from __future__ import annotations

import contextlib
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


class Dunno(socketserver.StreamRequestHandler):
    """A policy server that has nothing against anybody (SMTPD_POLICY_README)."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            if line == b"\n":
                self.wfile.write(b"action=DUNNO\n\n")


class _Auth(socketserver.StreamRequestHandler):
    """An auth server that says hello to smtpd, as Dovecot does, and judges nobody."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(
                b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t" + b"0" * 32 + b"\nDONE\n"
            )
            self.rfile.read()


@contextlib.contextmanager
def auth_server(sockets: Path) -> Iterator[Path]:
    """Something that answers where saslauthd would; in `sockets`, which is made for it."""
    with _listening(sockets, {"auth": _Auth}):
        yield sockets


@contextlib.contextmanager
def refusers(sockets: Path) -> Iterator[set[str]]:
    """Three sidecars with which no mail passes, but by policyd as port 25 asks it. Yields who was asked."""
    asked: set[str] = set()

    class Policy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.add("policy")
            request = []
            while line := self.rfile.readline().decode().rstrip("\n"):
                request.append(line)
            as_mx = "policy_context=mx" in request
            asked.add("policy as mx" if as_mx else "policy as submission")
            self.wfile.write(b"action=DUNNO\n\n" if as_mx else b"action=550 5.7.1 not from here\n\n")

    def hangs_up(name: str) -> type[socketserver.BaseRequestHandler]:
        class HangsUp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                asked.add(name)

        return HangsUp

    with _listening(sockets, {"policy": Policy, "auth": hangs_up("auth"), "milter": hangs_up("milter")}):
        yield asked


@contextlib.contextmanager
def _listening(
    sockets: Path, handlers: dict[str, Callable[..., socketserver.BaseRequestHandler]]
) -> Iterator[None]:
    sockets.mkdir()
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, sockets)
        for name, handler in handlers.items():
            server = undo.enter_context(socketserver.ThreadingUnixStreamServer(str(sockets / name), handler))
            server.daemon_threads = True
            (sockets / name).chmod(0o666)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            undo.callback(server.shutdown)
        yield
