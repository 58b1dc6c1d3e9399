"""What we say of the tables is what a real OpenDKIM does with them."""

import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from milter import wire
from milter.claims import signed_by
from milter.tables import parse_tables
from milter.wire import Packet, encode
from tests.milter.test_claims import MALFORMED, signature

KEYS = """org example.org:s:{home}/s.private
own %:s:{home}/s.private
net example.net:s:{home}/s.private
idn xn--bcher-kva.example:s:{home}/s.private
"""
SIGNS = """# the first pattern decides
*@example.org org   # and comments end a line
*@own.example own
*@Upper.example own
*@other.example net
*@xn--bcher-kva.example idn
*@bücher.example idn
joe*@wild.*.example own
"""
CONF = """Mode s
MTA ORIGINATING
InternalHosts 192.0.2.255
KeyTable {home}/KeyTable
SigningTable refile:{home}/SigningTable
Socket local:{home}/socket
RequireSafeKeys no
Canonicalization relaxed/relaxed
Syslog no
"""
AUTHORS = [
    "alice@example.org",
    "Alice@EXAMPLE.ORG",
    "alice@sub.example.org",
    "alice@example.orgg",
    "a@own.example",
    "a@OWN.example",
    "a@upper.example",
    "a@UPPER.example",
    "a@other.example",
    "a@xn--bcher-kva.example",
    "a@bücher.example",
    "joe.x@wild.a.b.example",
    "jo@wild.a.example",
    "a@nowhere.example",
]


@pytest.fixture(scope="module")
def opendkim() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    genkey = ["opendkim-genkey", "-b", "1024", "-d", "example.org", "-s", "s", "-D", str(home)]
    subprocess.run(genkey, check=True, capture_output=True)
    for name, text in (("KeyTable", KEYS), ("SigningTable", SIGNS), ("conf", CONF)):
        (home / name).write_text(text.replace("{home}", str(home)))
    daemon = subprocess.Popen(["opendkim", "-f", "-x", str(home / "conf")])
    end = time.monotonic() + 20
    while not (home / "socket").exists():
        assert daemon.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    yield home
    daemon.terminate()
    daemon.wait(10)
    shutil.rmtree(home)


class Filter:
    """OpenDKIM as an MTA asks it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.protocol = 0

    def say(self, command: bytes, data: bytes = b"") -> None:
        self.socket.sendall(encode(Packet(command, data)))

    def hear(self) -> bytes:
        (size,) = struct.unpack("!I", self.socket.recv(4, socket.MSG_WAITALL))
        return self.socket.recv(size, socket.MSG_WAITALL)

    def step(self, command: bytes, data: bytes = b"") -> bytes:
        self.say(command, data)
        return b"c" if self.protocol & wire.UNANSWERED.get(command, 0) else self.hear()


def signing_domain(home: Path, author: str, *fields: tuple[str, str]) -> str | None:
    """The d= of the signature that the message gets, None when it stays unsigned."""
    asked = Filter(home / "socket")
    asked.say(b"O", struct.pack("!III", 6, 0x1FF, 0))
    asked.hear()
    asked.say(b"D", b"C{daemon_name}\0ORIGINATING\0")
    for command, data in ((b"C", b"x\x004\x01\x02127.0.0.1\0"), (b"H", b"x\0"), (b"M", b"<a@b.example>\0")):
        assert asked.step(command, data) == b"c"
    asked.step(b"R", b"<x@y.example>\0")
    for name, value in (("From", author), ("Date", "Sat, 21 Nov 2026 02:02:38 +0000"), *fields):
        asked.step(b"L", f"{name}\0 {value}\0".encode("utf-8", "surrogateescape"))
    if asked.step(b"N") != b"c":
        asked.socket.close()
        return None
    asked.step(b"B", b"Hello.\r\n")
    asked.say(b"E")
    found = None
    while (answer := asked.hear())[:1] in (b"h", b"i", b"p"):
        found = found or re.search(rb"\bd=([^;]+);", answer)
    asked.socket.close()
    return found[1].decode("ascii") if found else None


@pytest.mark.parametrize("author", AUTHORS)
def test_opendkim_signs_for_the_domain_that_we_expect(opendkim: Path, author: str) -> None:
    expected = parse_tables((opendkim / "KeyTable").read_text(), (opendkim / "SigningTable").read_text())
    assert signing_domain(opendkim, author) == expected.signing_domain(author)


SIGNATURES = {**MALFORMED, "good": signature(), "good and ours": signature("example.org")}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_that_keeps_opendkim_from_signing_never_stays(opendkim: Path, name: str) -> None:
    text = SIGNATURES[name].decode("utf-8", "surrogateescape")
    signed = signing_domain(opendkim, "alice@example.org", ("DKIM-Signature", text))
    assert signed == "example.org" or signed_by(SIGNATURES[name]) is None


def test_there_are_signatures_that_keep_opendkim_from_signing(opendkim: Path) -> None:
    broken = ("DKIM-Signature", MALFORMED["no tag list"].decode())
    assert signing_domain(opendkim, "alice@example.org") == "example.org"
    assert signing_domain(opendkim, "alice@example.org", broken) is None
