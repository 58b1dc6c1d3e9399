"""What we say of the tables is what a real OpenDKIM does with them."""

import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from milter import wire
from milter.author import Unparsable, parse_mailbox
from milter.claims import signed_by
from milter.tables import TableError, parse_tables
from milter.wire import Packet, encode
from submitward.dkim.keyfile import make_key
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


@contextmanager
def started(home: Path, listens: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """An OpenDKIM on home/conf; whether it has crashed is the caller's to see."""
    daemon = subprocess.Popen(["opendkim", "-f", "-x", str(home / "conf")], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not (listens or home / "socket").exists():
        assert daemon.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    yield daemon
    daemon.kill()  # it takes five seconds over SIGTERM
    daemon.wait(10)


@pytest.fixture(scope="module")
def opendkim() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/var/tmp"))
    genkey = ["opendkim-genkey", "-b", "1024", "-d", "example.org", "-s", "s", "-D", str(home)]
    subprocess.run(genkey, check=True, capture_output=True)
    for name, text in (("KeyTable", KEYS), ("SigningTable", SIGNS), ("conf", CONF)):
        (home / name).write_text(text.replace("{home}", str(home)))
    with started(home):
        yield home
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

    def greet(self) -> None:
        """Up to HELO, on a submission service."""
        self.say(b"O", struct.pack("!III", 6, 0x1FF, 0))
        self.hear()
        self.say(b"D", b"C{daemon_name}\0ORIGINATING\0")
        for command, data in ((b"C", b"x\x004\x01\x02127.0.0.1\0"), (b"H", b"x\0")):
            assert self.step(command, data) == b"c"

    def submit(self, author: str, *fields: tuple[str, str]) -> list[bytes]:
        """One message; every answer from the end of its header on, the verdict last."""
        assert self.step(b"M", b"<a@b.example>\0") == b"c"
        self.step(b"R", b"<x@y.example>\0")
        for name, value in (("From", author), ("Date", "Sat, 21 Nov 2026 02:02:38 +0000"), *fields):
            self.step(b"L", f"{name}\0 {value}\0".encode("utf-8", "surrogateescape"))
        answers = [self.step(b"N")]
        if answers == [b"c"]:
            self.step(b"B", b"Hello.\r\n")
            self.say(b"E")
            answers.append(self.hear())
            while answers[-1][:1] in (b"h", b"i", b"p"):
                answers.append(self.hear())
        return answers

    def close(self) -> None:
        self.socket.close()


def signing_domain(home: Path, author: str, *fields: tuple[str, str]) -> str | None:
    """The d= of the signature that the message gets, None when it gets none."""
    with closing(Filter(home / "socket")) as asked:
        asked.greet()
        found = re.search(rb"\bd=([^;]+);", b"".join(asked.submit(author, *fields)))
    return found[1].decode("ascii") if found else None


@pytest.mark.parametrize("author", AUTHORS)
def test_opendkim_signs_for_the_domain_that_we_expect(opendkim: Path, author: str) -> None:
    expected = parse_tables((opendkim / "KeyTable").read_text(), (opendkim / "SigningTable").read_text())
    assert signing_domain(opendkim, author) == expected.signing_domain(author)


def test_an_author_whom_opendkim_does_not_sign_because_of_its_length_never_gets_there(opendkim: Path) -> None:
    def author(size: int) -> str:
        return "l" * (size - len("@example.org")) + "@example.org"

    assert signing_domain(opendkim, author(256)) == "example.org"
    assert signing_domain(opendkim, author(257)) is None
    assert parse_mailbox(author(254).encode()).address == author(254)
    with pytest.raises(Unparsable, match="long_address"):
        parse_mailbox(author(255).encode())


@pytest.mark.parametrize("signs", ["x(@a.example k\n", "?@a.example k\n", f"# {'c' * 3000}\n*@a.example k\n"])
def test_a_line_with_which_opendkim_does_not_start_is_an_error(opendkim: Path, signs: str) -> None:
    with tempfile.TemporaryDirectory(prefix="sw", dir="/var/tmp") as folder:
        home = Path(folder)
        for file, text in (("KeyTable", GOOD_KEYS), ("SigningTable", signs), ("conf", CONF)):
            there = opendkim if file == "KeyTable" else home
            (home / file).write_text(text.replace("{home}", str(there)))
        command = ["opendkim", "-n", "-f", "-x", str(home / "conf")]
        assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode != 0
        with pytest.raises(TableError):
            parse_tables((home / "KeyTable").read_text(), signs)


#: A mistake in one of the tables, and what OpenDKIM does with it. {home} is where the key is.
GOOD_KEYS, GOOD_SIGNS = "k a.example:s:{home}/s.private\n", "*@a.example k\n"
MISTAKES = {
    "no name of a key": (GOOD_KEYS, "*@a.example\n", "crashes"),
    "a selector that is not ASCII": ("k a.example:sé:{home}/s.private\n", GOOD_SIGNS, "crashes"),
    "a domain that is not ASCII": ("k bücher.example:s:{home}/s.private\n", GOOD_SIGNS, "crashes"),
    "a signer that is no address": (GOOD_KEYS, "*@a.example k:%\n", "unsigned"),
    "a byte order mark": (GOOD_KEYS, "\ufeff" + GOOD_SIGNS, "unsigned"),
    "a blank before a pattern": (GOOD_KEYS, " " + GOOD_SIGNS, "unsigned"),
    "a domain for a pattern": (GOOD_KEYS, "a.example k\n", "unsigned"),
    "a key that there is not": (GOOD_KEYS, "*@a.example j\n", "unsigned"),
    "no path": ("k a.example:s\n", GOOD_SIGNS, "unsigned"),
    "a path that does not begin with a slash": ("k a.example:s:s.private\n", GOOD_SIGNS, "unsigned"),
    "a dot at the end of the domain": ("k a.example.:s:{home}/s.private\n", GOOD_SIGNS, "a.example."),
    "a selector that is none": ("k a.example:s/x:{home}/s.private\n", GOOD_SIGNS, "a.example"),
    "a blank that is none": (GOOD_KEYS, "*@a.example\u00a0k\n", "unsigned"),
    "a signer of 300 octets": (GOOD_KEYS, f"*@a.example k:{'s' * 290}@a.example\n", "unsigned"),
    "a mark of regular expressions": (GOOD_KEYS, "x|y@a.example k\n", "a.example"),
    "nothing": (GOOD_KEYS, GOOD_SIGNS, "a.example"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_that_opendkim_crashes_on_or_leaves_mail_unsigned_for_is_an_error(
    opendkim: Path, name: str
) -> None:
    keys, signs, outcome = MISTAKES[name]
    with tempfile.TemporaryDirectory(prefix="sw", dir="/var/tmp") as folder:
        home = Path(folder)
        for file, text in (("KeyTable", keys), ("SigningTable", signs), ("conf", CONF)):
            there = opendkim if file == "KeyTable" else home
            (home / file).write_text(text.replace("{home}", str(there)))
        with started(home) as daemon:
            try:
                found = signing_domain(home, "x@a.example") or "unsigned"
            except (struct.error, ConnectionError):
                assert daemon.wait(10) < 0
                found = "crashes"
        assert found == outcome
        if name == "nothing":
            parse_tables((home / "KeyTable").read_text(), signs)
        else:
            with pytest.raises(TableError):
                parse_tables((home / "KeyTable").read_text(), signs)


def test_a_new_line_is_signed_after_a_reload_and_on_connections_that_begin_after_it() -> None:
    """Why the milter lets a line settle before it counts."""
    with tempfile.TemporaryDirectory(prefix="sw", dir="/var/tmp") as folder:
        home = Path(folder)
        make_key(home / "s.private")
        (home / "KeyTable").write_text(f"k a.example:s:{home}/s.private\n")
        (home / "SigningTable").write_text("")
        (home / "conf").write_text(CONF.replace("{home}", str(home)))
        with started(home) as daemon, closing(Filter(home / "socket")) as old:
            old.greet()
            (home / "SigningTable").write_text(GOOD_SIGNS)
            assert signing_domain(home, "x@a.example") is None
            daemon.send_signal(signal.SIGUSR1)
            end = time.monotonic() + 20
            while signing_domain(home, "x@a.example") is None and time.monotonic() < end:
                time.sleep(0.05)
            assert signing_domain(home, "x@a.example") == "a.example"
            answers = old.submit("x@a.example")
            assert answers[-1] in (b"c", b"a")  # it passes
            assert not any(b"DKIM-Signature" in answer for answer in answers)


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
