"""The shipped opendkim.conf: what it signs, and what becomes of a key that is not safe or cannot be read.

Below /var/lib and not where tests otherwise lie: no directory above a safe key may be writable for everybody.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import dkim
import pytest

from submitward.dkim.keyfile import KeyTrouble, danger, make_key, read_public, remove_key
from submitward.dkim.record import format_record
from tests.lab.place import SHIPPED
from tests.milter.test_opendkim import Filter, started

PLACES = """
Syslog no
Socket local:{home}/run/socket
PidFile {home}/run/pid
KeyTable {home}/KeyTable
SigningTable refile:{home}/SigningTable
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory in which OpenDKIM's keys are safe, and an OpenDKIM on the shipped settings."""
    with tempfile.TemporaryDirectory(prefix="submitward-test-", dir="/var/lib") as folder:
        home = Path(folder)
        home.chmod(0o755)
        for name in ("keys", "run"):
            (home / name).mkdir(mode=0o750)
            shutil.chown(home / name, "opendkim", "opendkim")
        (home / "KeyTable").write_text(f"k example.org:s:{home}/keys/k.private\n")
        (home / "SigningTable").write_text("*@example.org k\n")
        (home / "conf").write_text(
            (SHIPPED / "opendkim.conf").read_text() + PLACES.replace("{home}", str(home))
        )
        with started(home, home / "run" / "socket"):
            yield home


@pytest.fixture
def key(home: Path) -> Iterator[Path]:
    path = home / "keys" / "k.private"
    make_key(path, "opendkim")
    yield path
    remove_key(path)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


UNSAFE: dict[str, Callable[[Path], object]] = {
    "readable for everybody": lambda path: path.chmod(0o604),
    "writable for everybody": lambda path: path.chmod(0o602),
    "readable for a group of others": lambda path: (
        path.chmod(0o640),
        shutil.chown(path, "opendkim", "postfix"),
    ),
    "root's alone": lambda path: shutil.chown(path, "root", "root"),
    "somebody else's": lambda path: shutil.chown(path, "postfix", "postfix"),
    "closed": lambda path: path.chmod(0),
    "in a directory of everybody": lambda path: path.parent.chmod(0o777),
    "in a closed directory": lambda path: (
        path.parent.chmod(0o700),
        shutil.chown(path.parent, "root", "root"),
    ),
    "missing": Path.unlink,
    "a directory": replace_by_directory,
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:400]),
}


def mend(path: Path, kept: bytes) -> None:
    """The key as `make_key` leaves it."""
    path.parent.chmod(0o750)
    shutil.chown(path.parent, "opendkim", "opendkim")
    if path.is_dir():
        path.rmdir()
    path.write_bytes(kept)
    path.chmod(0o600)
    shutil.chown(path, "opendkim", "opendkim")


def is_seen_by_us(path: Path) -> bool:
    """Whether `submitward dkim tables` would say that this key cannot be used."""
    try:
        read_public(path)
        return danger(path, "opendkim") != ""
    except (OSError, KeyTrouble):
        return True


def is_signed(answers: list[bytes]) -> bool:
    return any(b"DKIM-Signature" in answer for answer in answers)


@pytest.mark.parametrize("how", UNSAFE)
def test_a_key_that_opendkim_must_not_use_is_a_temporary_failure_of_the_message_alone(
    home: Path, key: Path, how: str
) -> None:
    with closing(Filter(home / "run" / "socket")) as asked:
        asked.greet()
        assert is_signed(asked.submit("alice@example.org"))
        assert not is_seen_by_us(key)
        kept = key.read_bytes()
        UNSAFE[how](key)
        assert is_seen_by_us(key)
        answers = asked.submit("alice@example.org")
        assert not is_signed(answers)
        assert answers[-1][:1] == b"t" or answers[-1].startswith(b"y4"), answers
        mend(key, kept)
        assert is_signed(asked.submit("alice@example.org"))


#: What nobody may be able to add, whether it is there or not (RFC 6376, 8.15).
OVERSIGNED = (
    *("From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date"),
    *("Message-ID", "MIME-Version", "Content-Type"),
)
FIELDS = {
    "few": {},
    "all": {
        "Sender": "bob@example.org",
        "Reply-To": "a@b.example",
        "To": "a@b.example",
        "Cc": "c@b.example",
        "Subject": "x",
        "Message-ID": "<x@example.org>",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain",
    },
}


@pytest.mark.parametrize("fields", FIELDS)
def test_nothing_that_counts_can_be_added_to_what_is_signed(home: Path, key: Path, fields: str) -> None:
    with closing(Filter(home / "run" / "socket")) as asked:
        asked.greet()
        answers = asked.submit("alice@example.org", *FIELDS[fields].items())
    (value,) = [answer.split(b"\0")[-2] for answer in answers if b"DKIM-Signature" in answer]
    there = {"From": "alice@example.org", "Date": "Sat, 21 Nov 2026 02:02:38 +0000", **FIELDS[fields]}
    header = [b"DKIM-Signature: " + value.strip().replace(b"\n", b"\r\n")]
    header += [f"{name}: {text}".encode() for name, text in there.items()]
    record = format_record(read_public(key).text).encode()

    def holds(lines: list[bytes]) -> bool:
        message = b"".join(line + b"\r\n" for line in lines) + b"\r\nHello.\r\n"
        return bool(dkim.verify(message, dnsfunc=lambda *_, **__: record))

    assert holds(header)
    for name in OVERSIGNED:
        added = f"{name}: other".encode()
        assert not holds([added, *header]), name
        assert not holds([*header, added]), name
    tags = dict(tag.strip().split(b"=", 1) for tag in value.split(b";"))
    assert (tags[b"a"], tags[b"c"], tags[b"d"]) == (b"rsa-sha256", b"relaxed/relaxed", b"example.org")
    assert b"l" not in tags
    assert int(tags[b"x"]) - int(tags[b"t"]) == 10 * 86400


def test_a_signature_lives_longer_than_the_queue() -> None:
    main, signer = (SHIPPED / "main.cf").read_text(), (SHIPPED / "opendkim.conf").read_text()
    (days,) = re.findall(r"^maximal_queue_lifetime = (\d+)d$", main, re.MULTILINE)
    (seconds,) = re.findall(r"^SignatureTTL +(\d+)$", signer, re.MULTILINE)
    assert int(seconds) > int(days) * 86400
    assert re.search(r"^SigningTable +refile:", signer, re.MULTILINE)
