"""Whatever is away, frozen, killed or spoiled: what leaves is checked and signed, or does not leave yet.

A milter that fails is given up by smtpd for the rest of that session, and every message of it is temporary;
a key or a store that fails costs the message in hand, and the connection goes on.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from smtplib import SMTPResponseException
from sqlite3 import connect

import pytest
import yaml

from milter.probe import signature_of
from tests.lab import Lab
from tests.lab.cast import Cast
from tests.lab.client import FRIEND, Reply, Session, compose, token
from tests.lab.evidence import delivered, used
from tests.lab.processes import connects, wait_for
from tests.lab.story import BOB

ADMIN = "admin@example.com"  # nobody's here


class Sender:
    """Bob, who sends on one connection and remembers what was not taken."""

    def __init__(self, lab: Lab, session: Session) -> None:
        self.lab = lab
        self.session = session
        self.not_taken: list[str] = []

    def send(self, author: str = BOB, before: dict[str, Callable[[], object]] | None = None) -> Reply:
        word = token()
        reply = self.session.send(BOB, [FRIEND], compose(author, word), before)
        if reply.code != 250:
            self.not_taken.append(word)
        return reply

    def send_signed(self) -> None:
        word = token()
        reply = self.session.send(BOB, [FRIEND], compose(BOB, word))
        assert reply.code == 250, str(reply)
        (mail,) = delivered(self.lab, word)
        assert mail.is_aligned

    def left(self) -> list[str]:
        """What was delivered all the same."""
        return [word for word in self.not_taken if self.lab.received(word)]


@pytest.fixture
def bob(lab: Lab, cast: Cast) -> Iterator[Sender]:
    with cast.login("bob") as session:
        sender = Sender(lab, session)
        yield sender
    assert sender.left() == []


@contextmanager
def no_milter(lab: Lab) -> Iterator[None]:
    """The milter is dead, and nobody starts it again or holds its socket."""
    old, socket = lab.pid("milter"), lab.places.socket("milter")
    aside = socket.with_name("aside")
    lab.kill("supervisor", signal.SIGSTOP)
    try:
        lab.kill("milter")
        socket.rename(aside)
        yield
    finally:
        aside.rename(socket)
        lab.kill("supervisor", signal.SIGCONT)
        assert lab.wait_pid("milter", old)
        wait_for("the milter listens", lambda: connects(lab.places.socket("milter")))


@contextmanager
def no_opendkim(lab: Lab) -> Iterator[None]:
    """OpenDKIM is dead."""
    lab.kill("opendkim")
    lab.running.stop_opendkim()
    wait_for("OpenDKIM is gone", lambda: not connects(lab.places.socket("opendkim")))
    try:
        yield
    finally:
        lab.running.start_opendkim()


@contextmanager
def frozen(lab: Lab, name: str) -> Iterator[None]:
    lab.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        lab.kill(name, signal.SIGCONT)


@pytest.mark.parametrize("away", [no_milter, no_opendkim])
def test_a_milter_that_is_down_makes_each_message_of_the_session_temporary(
    lab: Lab, bob: Sender, cast: Cast, away: Callable
) -> None:
    bob.send_signed()
    with away(lab):
        assert [bob.send().code, bob.send(ADMIN).code] == [451, 451]
        with pytest.raises(SMTPResponseException) as refused:  # at STARTTLS: nobody gets as far as AUTH
            cast.login("bob")
        assert refused.value.smtp_code == 454
    assert bob.send().code == 451
    with cast.login("bob") as session:
        Sender(lab, session).send_signed()


@pytest.mark.parametrize("name", ["milter", "opendkim"])
def test_a_milter_that_is_frozen_makes_each_message_of_the_session_temporary(
    lab: Lab, bob: Sender, cast: Cast, name: str
) -> None:
    bob.send_signed()
    with frozen(lab, name):
        assert [bob.send().code, bob.send().code] == [451, 451]
    assert bob.send().code == 451
    with cast.login("bob") as session:
        Sender(lab, session).send_signed()


@pytest.mark.parametrize("away", [no_milter, no_opendkim])
@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA", "."])
def test_a_milter_that_is_killed_in_a_message_makes_it_and_the_rest_of_the_session_temporary(
    lab: Lab, bob: Sender, moment: str, away: Callable
) -> None:
    with ExitStack() as stack:
        assert bob.send(before={moment: lambda: stack.enter_context(away(lab))}).code == 451
    assert bob.send().code == 451


@contextmanager
def spoiled(path: Path, spoil: Callable[[Path], object]) -> Iterator[None]:
    """`path` spoiled, and put back as it was; the milter looks at its tables once a second."""
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    shutil.copy2(kept, path)
    os.chown(path, kept.stat().st_uid, kept.stat().st_gid)
    spoil(path)
    time.sleep(1.1)
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        kept.replace(path)
        time.sleep(1.1)


SHORT = """-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQ
-----END RSA PRIVATE KEY-----
"""
#: What is done to the private key of example.org.
KEYS: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "unreadable": lambda path: (os.chown(path, 0, 0), path.chmod(0)),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:400]),
    "no key": lambda path: path.write_text("key\n"),
    "half a key": lambda path: path.write_text(SHORT),
}


@pytest.mark.parametrize("how", KEYS)
def test_a_key_that_cannot_be_used_costs_the_message_alone(lab: Lab, bob: Sender, how: str) -> None:
    (key,) = (lab.places.keys / "example.org").glob("*.private")
    with spoiled(key, KEYS[how]):
        replies = [bob.send(), bob.send(ADMIN), bob.send()]
        assert [reply.code for reply in replies] == [451, 550, 451], list(map(str, replies))
    bob.send_signed()


#: A table, and what is done to it.
TABLES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no KeyTable": ("KeyTable", Path.unlink),
    "an empty KeyTable": ("KeyTable", lambda path: path.write_text("")),
    "a KeyTable that crashes OpenDKIM": (
        "KeyTable",
        lambda path: path.write_text("example.org example.org\n"),
    ),
    "no SigningTable": ("SigningTable", Path.unlink),
    "an empty SigningTable": ("SigningTable", lambda path: path.write_text("")),
    "no line for the domain": ("SigningTable", lambda path: path.write_text("*@example.com example.com\n")),
    "no text": ("SigningTable", lambda path: path.write_bytes(b"\xff\xfe\0")),
}


@pytest.mark.parametrize("how", TABLES)
def test_tables_that_would_not_sign_cost_the_message_alone(lab: Lab, bob: Sender, how: str) -> None:
    before = used(lab, "bob")
    name, spoil = TABLES[how]
    with spoiled(lab.places.postfix / name, spoil):
        replies = [bob.send(), bob.send()]
        assert [reply.code for reply in replies] == [451, 451], list(map(str, replies))
    assert (used(lab, "bob") - before)["messages"] == 0
    bob.send_signed()


@pytest.mark.parametrize("moment", ["DATA", "."])
def test_a_ledger_that_is_away_costs_the_message_alone(lab: Lab, bob: Sender, moment: str) -> None:
    bob.send_signed()
    with closing(connect(lab.places.ledger, isolation_level=None, check_same_thread=False)) as book:
        reply = bob.send(before={moment: lambda: book.execute("BEGIN EXCLUSIVE")})
        assert 400 <= reply.code < 500, str(reply)
        book.execute("ROLLBACK")
    wait_for("the ledger is back", lambda: bob.send().code == 250)
    bob.send_signed()


def test_a_directory_that_is_lost_leaves_the_last_good_one_in_force(lab: Lab, bob: Sender) -> None:
    with spoiled(lab.places.submitward / "directory.yaml", Path.unlink):
        bob.send_signed()
        assert bob.send(ADMIN).code == 550


@contextmanager
def observing(lab: Lab) -> Iterator[None]:
    """The author check refuses nothing."""
    settings = lab.places.settings
    good = settings.read_text()

    def reload(text: str) -> None:
        told = lab.log("supervisor").count(f"author={mode_of(text)}")
        settings.write_text(text)
        lab.kill("milter", signal.SIGHUP)
        wait_for("the milter reloads", lambda: lab.log("supervisor").count(f"author={mode_of(text)}") > told)

    try:
        reload(good.replace("mode: enforce", "mode: observe"))
        yield
    finally:
        reload(good)


def mode_of(settings: str) -> str:
    return "observe" if "mode: observe" in settings else "enforce"


BROKEN = (b"DKIM-Signature: v=1; nonsense", b"DKIM-Signature:")


def test_what_is_only_observed_leaves_signed_all_the_same(lab: Lab, cast: Cast) -> None:
    with observing(lab), cast.login("bob") as session:
        for author in (BOB, "alice@example.org"):  # another's, whose domain has a key
            for fields in ((), BROKEN):
                word = token()
                message = b"\r\n".join(fields) + (b"\r\n" if fields else b"") + compose(author, word)
                reply = session.send(BOB, [FRIEND], message)
                assert reply.code == 250, str(reply)
                (mail,) = delivered(lab, word)
                assert mail.is_aligned
                assert mail.message.lower().count(b"dkim-signature:") == 1


@contextmanager
def confirming(lab: Lab) -> Iterator[None]:
    """The milter asks OpenDKIM whether it has read its tables."""
    path = lab.places.settings
    good = path.read_text()
    settings = yaml.safe_load(good)
    settings["sign"] |= {"socket": str(lab.places.socket("opendkim")), "confirm": True}

    def reload(text: str) -> None:
        told = lab.log("supervisor").count("milter: event=reload")
        path.write_text(text)
        lab.kill("milter", signal.SIGHUP)
        wait_for("the milter reloads", lambda: lab.log("supervisor").count("milter: event=reload") > told)

    try:
        reload(yaml.safe_dump(settings))
        yield
    finally:
        reload(good)


def test_a_line_that_opendkim_has_not_read_again_makes_mail_wait_for_the_reload(
    lab: Lab, bob: Sender, cast: Cast
) -> None:
    def reload(signs: bool) -> None:
        lab.kill("opendkim", signal.SIGUSR1)
        socket = lab.places.socket("opendkim")
        wait_for("OpenDKIM reads its tables", lambda: (signature_of(socket, BOB) is not None) == signs)

    with confirming(lab):
        bob.send_signed()
        try:
            with spoiled(lab.places.postfix / "SigningTable", lambda path: path.write_text("")):
                reload(signs=False)
            with cast.login("bob") as session:  # on an older connection it would be signed
                waiting = Sender(lab, session)
                reply = waiting.send()
                assert (reply.code, reply.enhanced) == (451, "4.7.5"), str(reply)
        finally:
            reload(signs=True)
        with cast.login("bob") as session:
            Sender(lab, session).send_signed()
        assert waiting.left() == []
