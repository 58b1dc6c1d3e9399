"""Asks the signer itself, as an MTA would, which key a message of an author gets. The message goes nowhere.

Knows the MTA's side of the milter protocol as far as that takes. Must not know which key it should be.
"""

from __future__ import annotations

import socket
import struct
from contextlib import closing
from pathlib import Path

from milter import wire
from milter.wire import PACKET_MAX, Packet, encode

TIMEOUT = 10.0  # seconds for each answer
#: What the shipped master.cf has the submission services say; opendkim.conf signs for it (`MTA`).
DAEMON = b"{daemon_name}\0ORIGINATING\0"
_VERDICTS = (b"a", b"c", b"r", b"t", b"y", b"d")


class NoAnswer(Exception):
    """The signer cannot be asked, or says something that is no answer; str() says which."""


def selector_of(path: Path, author: str) -> str | None:
    """The s= that a message From `author` gets; else as `signature_of`."""
    found = signature_of(path, author)
    return found[1] if found else None


def signature_of(path: Path, author: str, timeout: float = TIMEOUT) -> tuple[str, str] | None:
    """The d= and the s= that a message From `author` gets, from OpenDKIM at the UNIX socket `path`; None: no
    signature. `timeout` is in seconds, for each answer.

    Raises NoAnswer. A new connection each time: OpenDKIM keeps older tables on older ones.
    """
    try:
        with closing(socket.socket(socket.AF_UNIX)) as peer:
            peer.settimeout(timeout)
            peer.connect(str(path))
            return _converse(peer, author)
    except (OSError, struct.error) as wrong:
        raise NoAnswer(f"{path}: {wrong}") from None


def _converse(peer: socket.socket, author: str) -> tuple[str, str] | None:
    _say(peer, wire.NEGOTIATE, struct.pack("!III", 6, 0x1FF, 0))
    _hear(peer)
    _say(peer, wire.MACRO, b"C" + DAEMON)
    header = (
        f"From\0 {author}\0",
        "Date\0 Thu, 01 Jan 1970 00:00:00 +0000\0",
        "Subject\0 submitward asks who signs\0",
    )
    steps = [
        (wire.CONNECT, b"localhost\x004\x00\x00127.0.0.1\0"),
        (wire.HELO, b"localhost\0"),
        (wire.MAIL, f"<{author}>\0".encode()),
        (wire.RCPT, f"<{author}>\0".encode()),
        *((wire.HEADER, field.encode()) for field in header),
        (wire.END_OF_HEADERS, b""),
        (wire.BODY, b"\r\n"),
    ]
    for command, data in steps:
        _say(peer, command, data)
        answer = _hear(peer)
        if answer[:1] == b"a":
            return None  # it has no more to say to this one
        if answer[:1] != b"c":
            raise NoAnswer(f"it answers {answer[:80]!r}")
    _say(peer, wire.END_OF_MESSAGE, b"")
    return _signature(peer)


def _signature(peer: socket.socket) -> tuple[str, str] | None:
    found = None
    while (answer := _hear(peer))[:1] not in _VERDICTS:
        if b"DKIM-Signature\0" in answer:
            pairs = (tag.partition("=") for tag in answer.decode("ascii", "replace").split(";"))
            tags = {name.strip(): value.strip() for name, _, value in pairs}
            found = (tags.get("d", ""), tags.get("s", ""))
    if answer[:1] not in (b"a", b"c"):
        raise NoAnswer(f"it answers {answer[:80]!r}")
    return found


def _say(peer: socket.socket, command: bytes, data: bytes) -> None:
    peer.sendall(encode(Packet(command, data)))


def _hear(peer: socket.socket) -> bytes:
    (size,) = struct.unpack("!I", _read(peer, 4))
    if not 0 < size <= PACKET_MAX:
        raise NoAnswer("it does not speak the milter protocol")
    return _read(peer, size)


def _read(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise NoAnswer("it hangs up")
        data += piece
    return data
