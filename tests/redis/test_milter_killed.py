"""The milter killed before and after each of its verbs, before a real Postfix: what a message costs then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from smtplib import SMTP

import pytest

from tests.milter import mail_host
from tests.redis.books import Books
from tests.redis.hosts import Host, Milter, end, log_in, postfix, request
from tests.redis.server import running

PLAN = "100 recipients per hour"
_logins = count()


class Stage:
    """A host with Postfix and policyd, and a login that has spent nothing yet."""

    def __init__(self, host: Host, books: Books, port: int) -> None:
        self.host, self.books, self.port = host, books, port
        self.login = ""
        self.milters: list[Milter] = []

    def milter(self, *doom: str) -> Milter:
        self.milters.append(Milter(self.host, *doom))
        return self.milters[-1]

    def write(self, author: str) -> tuple[int, bytes]:
        """One message to two recipients; what is answered at its end."""
        client: SMTP = log_in(self.port, self.login)
        try:
            assert client.mail(f"{self.login}@example.org")[0] == 250
            for name in "ab":
                assert client.rcpt(f"{name}@elsewhere.example")[0] == 250
            return client.data(f"From: {author}\r\nSubject: x\r\n\r\nHello.\r\n".encode())
        finally:
            client.close()

    def spends(self, expected: int, later: float = 0.0) -> None:
        """Wait until so much is used."""
        until = time.monotonic() + 20
        while (used := self.books.used(f"login:{self.login}", PLAN, later=later)) != expected:
            assert time.monotonic() < until, f"{used} used, not {expected}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def place() -> Iterator[Stage]:
    server = running()
    prefix = server.prefix()
    host = Host(server, prefix, "mx1.example.org", plan=PLAN)
    books = Books(prefix, server)
    try:
        host.start()
        with postfix(host, main=mail_host.MAIN) as port:
            yield Stage(host, books, port)
    finally:
        host.remove()
        books.close()


@pytest.fixture
def stage(place: Stage) -> Iterator[Stage]:
    place.login = f"user{next(_logins)}"
    yield place
    while place.milters:
        milter = place.milters.pop()
        if milter.child.poll() is None:
            milter.end()


def lost(dying: Milter, answer: tuple[int, bytes]) -> None:
    """Postfix has lost its milter, and the client is told to try again."""
    assert answer[0] == 451, answer
    assert dying.child.wait(10) == -9


@pytest.mark.parametrize(
    ("verb", "when", "lost_one"),
    [
        ("record", "before", 0),
        ("record", "after", 0),
        ("take_up", "before", 0),
        # Nobody can tell whether Postfix has heard the answer: no message is let through for nothing.
        ("take_up", "after", 2),
    ],
)
def test_killed_before_it_lets_a_message_through_that_is_charged_once(
    stage: Stage, verb: str, when: str, lost_one: int
) -> None:
    author = f"{stage.login}@example.org"
    lost(stage.milter(verb, when), stage.write(author))
    stage.milter()
    stage.spends(lost_one)
    assert stage.write(author)[0] == 250
    stage.spends(lost_one + 2)
    stage.spends(lost_one + 2, later=1800)


@pytest.mark.parametrize("verb", ["record", "refund"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_giving_back_a_refused_message_costs_nothing(
    stage: Stage, verb: str, when: str
) -> None:
    lost(stage.milter(verb, when), stage.write("mallory@example.com"))
    stage.milter()
    assert stage.write("mallory@example.com")[0] == 550
    stage.spends(0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_giving_back_what_its_predecessor_left_it_is_given_back_once(
    stage: Stage, when: str
) -> None:
    client = stage.host.client()
    for asked in (request(stage.login, f"left.{when}", 7), end(request(stage.login, f"left.{when}", 7))):
        assert client.ask(**asked) == "DUNNO"
    stage.spends(7)
    dying = stage.milter("refund_untaken", when)
    assert dying.child.wait(20) == -9
    stage.milter()
    stage.spends(0)
    assert stage.write(f"{stage.login}@example.org")[0] == 250
    stage.spends(2)
