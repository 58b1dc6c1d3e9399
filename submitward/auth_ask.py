"""`submitward auth ask`: a client for any Dovecot auth socket, ours or not, as smtpd is one.

Knows the client's side of the protocol, as far as one question needs it. Must not know settings, nor who
answers.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator

YES, NO, USAGE, UNAVAILABLE = 0, 1, 2, 75
PATIENCE = 10.0  # seconds, as Postfix has it
LINE_MAX = 16384
_PORT = re.compile("[0-9]{1,5}")
_UNSENDABLE = frozenset("\0\x01\t\r\n")


class Trouble(Exception):
    """There is no answer: why, for the operator."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--socket", metavar="PATH", help="ask: a path, or inet:host:port")
    parser.add_argument("--mechanism", choices=["plain", "login"], default="plain", help="ask: default plain")
    parser.add_argument("--service", default="smtp", help="ask: default smtp")
    parser.add_argument("--rip", default="", metavar="ADDRESS", help="ask: the client address to tell")
    parser.add_argument("--no-tls", action="store_true", help="ask: as if the client were not on TLS")


def ask(options: argparse.Namespace, password: bytes) -> int:
    """Ask, and say what was answered. 0 OK, 1 FAIL, 2 usage, 75 no answer or a temporary one."""
    if not options.socket:
        return _complain("--socket is needed: the path of the auth socket, or inet:host:port", USAGE)
    if _UNSENDABLE & set(f"{options.service}{options.rip}"):
        return _complain("--service and --rip hold no TAB, NUL or line end", USAGE)
    began = time.monotonic()
    try:
        with _connected(options.socket) as talk:
            fields = talk.ask(options, options.login.encode("utf-8", "surrogateescape"), password)
            offered = talk.mechanisms
    except (OSError, Trouble) as wrong:
        return _complain(f"{options.socket}: {wrong}", UNAVAILABLE)
    status = status_of(fields)
    seconds = round(time.monotonic() - began, 3)
    if options.json:
        told = {"answer": fields[0], "fields": fields[2:], "mechanisms": offered, "seconds": seconds}
        print(json.dumps(told, indent=2))
    else:
        shown = (text if text.isprintable() and " " not in text else repr(text) for text in fields)
        print(" ".join(shown), f"({seconds} s)")
    return status


def status_of(fields: list[str]) -> int:
    """The exit status that an answer means."""
    if fields[0] == "OK":
        return YES
    return UNAVAILABLE if {"temp", "code=temp_fail"} & set(fields) else NO


class _Talk:
    """One connection after the handshake."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self.mechanisms: list[str] = []
        self._greet()

    def _greet(self) -> None:
        self._connection.sendall(f"VERSION\t1\t2\nCPID\t{os.getpid()}\n".encode())
        for _ in range(100):
            fields = self._line()
            if fields[0] == "MECH" and len(fields) > 1:
                self.mechanisms.append(fields[1])
            if fields[0] == "SPID" and not self.mechanisms:
                raise Trouble("SPID came before any MECH: this is another kind of socket (auth-master?)")
            if fields[0] == "VERSION" and fields[1:2] != ["1"]:
                raise Trouble("it speaks another major version of the protocol")
            if fields[0] == "DONE":
                return
        raise Trouble("the handshake does not end")

    def ask(self, options: argparse.Namespace, login: bytes, password: bytes) -> list[str]:
        """The fields of the answer."""
        question = ["AUTH", "1", options.mechanism.upper(), f"service={options.service}", "nologin"]
        question += [f"rip={options.rip}"] if options.rip else []
        question += [] if options.no_tls else ["secured"]
        responses = [login, password]
        if options.mechanism == "plain":
            responses = []
            question.append("resp=" + _base64(b"\0" + login + b"\0" + password))
        self._send(*question)
        while (fields := self._line())[0] == "CONT" and responses:
            self._send("CONT", "1", _base64(responses.pop(0)))
        if fields[0] not in ("OK", "FAIL") or fields[1:2] != ["1"]:
            raise Trouble(f"{fields[0][:20]!r} is no answer")
        return fields

    def _send(self, *fields: str) -> None:
        self._connection.sendall("\t".join(fields).encode() + b"\n")

    def _line(self) -> list[str]:
        line = self._file.readline(LINE_MAX + 1)
        if not line.endswith(b"\n"):
            raise Trouble("it hung up, which Postfix tells the client as 454, try later")
        return line[:-1].decode("utf-8", "backslashreplace").split("\t")

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def _connected(place: str) -> Iterator[_Talk]:
    if place.startswith("inet:"):
        host, _, port = place.removeprefix("inet:").rpartition(":")
        if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
            raise Trouble("write it as inet:host:port, the port from 1 to 65535")
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), PATIENCE)
        except UnicodeError:
            raise Trouble("this is no name of a host") from None
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(place.removeprefix("unix:"))
    with connection:
        talk = _Talk(connection)
        try:
            yield talk
        finally:
            talk.close()


def _base64(text: bytes) -> str:
    return base64.b64encode(text).decode()


def _complain(text: str, status: int) -> int:
    print(f"submitward auth ask: {text}", file=sys.stderr)
    return status
