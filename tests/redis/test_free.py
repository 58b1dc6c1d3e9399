"""What is not sent costs nothing: through a real Postfix, policyd, the milter and Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.milter import mail_host
from tests.redis.books import Books
from tests.redis.hosts import Host, log_in, milter, postfix
from tests.redis.server import running

PLAN = "100 recipients per hour"
#: what many share is given back with it
SHARED = "limits: {domains: {default: default}, networks: {default: default}, relay: default}\n"
PAYERS = ("login:alice", "domain:example.org", "network:127.0.0.1/32", "relay")


class Stage:
    def __init__(self, host: Host, books: Books, port: int) -> None:
        self.host, self.books, self.port = host, books, port

    def used(self, later: float = 0.0) -> int:
        (used,) = {self.books.used(payer, PLAN, later=later) for payer in PAYERS}
        return used

    def settles_at(self, expected: int) -> None:
        until = time.monotonic() + 5
        while self.used() != expected:
            assert time.monotonic() < until, f"{self.used()} used"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    server = running()
    prefix = server.prefix()
    host = Host(server, prefix, "mx1.example.org", plan=PLAN, sections=SHARED)
    books = Books(prefix, server)
    one_smtpd = mail_host.MAIN + "default_process_limit = 1\nsmtpd_error_sleep_time = 0\n"
    try:
        host.start()
        with milter(host), postfix(host, main=one_smtpd) as port:
            yield Stage(host, books, port)
    finally:
        host.remove()
        books.close()


def write(client, author: str) -> tuple[int, bytes]:
    assert client.mail("alice@example.org")[0] == 250
    assert client.rcpt("a@elsewhere.example")[0] == 250
    assert client.rcpt("b@elsewhere.example")[0] == 250
    return client.data(f"From: {author}\r\nSubject: x\r\n\r\nHello.\r\n".encode())


def test_a_message_costs_its_recipients_and_what_the_milter_refuses_costs_nothing(stage: Stage) -> None:
    client = log_in(stage.port, "alice")
    before = stage.used()
    code, text = write(client, "mallory@example.com")
    assert (code, text[:5]) == (550, b"5.7.1")
    stage.settles_at(before)
    code, text = write(client, "alice@example.org")
    assert code == 250, (text, (stage.host.home / "milter.log").read_text())
    stage.settles_at(before + 2)
    client.quit()


def test_a_refused_recipient_and_a_message_that_is_given_up_cost_nothing(stage: Stage) -> None:
    before = stage.used()
    client = log_in(stage.port, "alice")
    assert client.mail("bob@example.org")[0] == 250
    assert client.rcpt("a@elsewhere.example")[0] == 553
    client.rset()
    assert stage.used() == before
    client.mail("alice@example.org")
    client.rcpt("a@elsewhere.example")
    client.rset()
    assert stage.used() == before
    client.quit()


def test_a_transaction_that_ends_before_its_message_does_costs_nothing(stage: Stage) -> None:
    before = stage.used()
    client = log_in(stage.port, "alice")
    client.mail("alice@example.org")
    client.rcpt("a@elsewhere.example")
    assert client.docmd("DATA")[0] == 354
    client.send("From: alice@example.org\r\nSubject: never\r\n\r\nends")
    stage.settles_at(before + 1)
    client.close()
    assert stage.used(later=3660) == 0, "it lapses, should nothing come after it"
    client = log_in(stage.port, "alice")  # the next transaction of that smtpd says that it is over
    client.mail("alice@example.org")
    client.rcpt("a@elsewhere.example")
    client.rset()
    stage.settles_at(0)
    client.quit()
