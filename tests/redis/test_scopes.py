"""Limits that many share, and grants, on two hosts with one Redis, one of them behind a real Postfix."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.redis.hosts import Host, end, log_in, mail, postfix, request, send
from tests.redis.server import Server
from tests.redis.test_blocks import command
from tests.redis.test_mtas import spend

PATIENCE = 10.0
SECTIONS = """\
limits: {domains: {default: shared}, relay: all}
"""
PLANS = """\
plans:
  default: [100 recipients per hour]
  shared: [10 recipients per hour]
  all: [14 recipients per hour]
"""
DIRECTORY = """\
logins:
  alice: {mailboxes: [alice@example.org]}
  bob: {mailboxes: [bob@example.net, bob@example.org]}
  carol: {mailboxes: [carol@example.com]}
"""


def made(server: Server, name: str, *, plans: str = PLANS, **more: str) -> Host:
    host = Host(server, "t:", name, sections=SECTIONS, **more)
    text = host.settings.read_text()
    text = text.replace("plans: {default: [100 recipients per hour]}\n", plans)
    domains = "directory: {domains: {example.org: {aliases: [example.net]}}, "
    host.settings.write_text(text.replace("directory: {", domains))
    (host.home / "directory.yaml").write_text(DIRECTORY)
    return host


@pytest.fixture
def place() -> Iterator[tuple[Server, Host, Host]]:
    server = Server().start()
    hosts = [made(server, f"mx{n}.example.org").start() for n in (1, 2)]
    yield server, *hosts
    for host in hosts:
        host.remove()
    server.remove()


def answer(client, login: str, number: object, **more: object) -> str:
    """What is said to one message at DATA; one that passes is settled."""
    domain = "example.com" if login == "carol" else "example.org"
    asked = request(login, number, **{"sender": f"{login}@{domain}", **more})
    said = client.ask(**asked)
    if said == "DUNNO":
        assert client.ask(**end(asked)) == "DUNNO"
    return said


def until(client, login: str, name: str, begins: str) -> float:
    """Send on an open connection until the answer begins so; how long that took."""
    began = time.monotonic()
    for number in range(10_000):
        said = answer(client, login, f"{name}{number}")
        if said.startswith(begins):
            return time.monotonic() - began
        assert time.monotonic() - began < PATIENCE, said
        time.sleep(0.05)
    raise AssertionError


def used(host: Host, login: str) -> list[int]:
    """What was used of the limits of a login, its domain and the relay."""
    shown = command(host, "quota", "show", login)
    return [one["limits"][0]["used"] for one in (shown, *shown["shares"])]


def test_two_logins_share_their_domains_limit_the_relays_stops_all_and_a_grant_works_at_once(place) -> None:
    _, first, second = place
    other = second.client()
    with postfix(first) as port:
        alice, bob, carol = (log_in(port, login) for login in ("alice", "bob", "carol"))
        assert mail(alice, "alice", 6)
        assert answer(other, "bob", 1, recipients=3) == "DUNNO"
        assert mail(bob, "bob", 1)
        assert alice.mail("alice@example.org")[0] == 250
        codes = [alice.rcpt("r@elsewhere.example")]
        codes += [alice.docmd("DATA")] if codes[0][0] == 250 else []
        code, text = codes[-1]
        assert code == 450
        assert b"your domain example.org, all its senders together: used 10 of 10 recipients" in text
        alice.rset()
        assert answer(other, "bob", 2).startswith("450 4.7.1 your domain example.org, all its senders")
        carol.mail("carol@example.com")
        for number in range(4):
            assert carol.rcpt(f"r{number}@elsewhere.example")[0] == 250
        assert carol.docmd("DATA")[0] == 354
        carol.send("Subject: x\r\n\r\nHello.\r\n.\r\n")
        assert carol.getreply()[0] == 250
        assert answer(other, "carol", 3).startswith(
            "450 4.7.1 this relay, all senders together: used 14 of 14"
        )
        command(first, "quota", "grant", "relay", "1000 recipients per hour", "--reason", "black friday")
        assert until(other, "carol", "c", "DUNNO") < 2
        assert answer(other, "bob", 4).startswith("450 4.7.1 your domain example.org")
        command(
            second, "quota", "grant", "domain:example.net", "+20 recipients", "--for", "1 h", "--reason", "x"
        )
        assert until(other, "bob", "b", "DUNNO") < 2
        began = time.monotonic()
        while not mail(alice, "alice", 1):
            assert time.monotonic() - began < 2
        for client in (alice, bob, carol):
            client.close()


def test_two_hosts_at_full_speed_admit_exactly_what_two_logins_share() -> None:
    server = Server().start()
    plans = PLANS.replace("[10 ", "[70 ").replace("[14 ", "[1000 ")
    first, second = (made(server, f"mx{n}.example.org", plans=plans) for n in (1, 2))
    admitted: list[int] = []

    def send_all(login: str, seed: int) -> None:
        admitted.append(spend(port, second, login, seed))

    try:
        first.start()
        second.start()
        with postfix(first) as port:
            lanes = [threading.Thread(target=send_all, args=each) for each in (("alice", 1), ("bob", 2))]
            for lane in lanes:
                lane.start()
            for lane in lanes:
                lane.join(120)
        assert len(admitted) == 2
        assert sum(admitted) == 70
        assert used(first, "bob")[1] == 70
    finally:
        for host in (first, second):
            host.remove()
        server.remove()


def test_what_is_given_back_is_given_back_to_all_who_paid(place) -> None:
    _, first, _ = place
    client = first.client()
    assert client.ask(**request("alice", "a", 4)) == "DUNNO"
    assert used(first, "alice") == [4, 4, 4]
    assert send(client, "bob", "b", 2)  # on the same connection: alice's transaction is over
    began = time.monotonic()
    while used(first, "alice") != [0, 2, 2]:
        assert time.monotonic() - began < PATIENCE
    listed = command(first, "quota", "list", "--all")
    assert {(one["subject"], one["used"]) for one in listed} == {
        ("login:bob", 2),
        ("domain:example.org", 2),
        ("relay", 2),
    }
    assert command(first, "quota", "reset", "relay", "--reason", "x")["counters"] == 1
    assert used(first, "bob") == [2, 2, 0]
    trail = command(first, "audit")
    assert [(one["action"], one["subject"]) for one in trail] == [("reset", "relay")]


def test_a_grant_outlasts_flushall_and_one_that_was_revoked_stays_so(place) -> None:
    server, first, second = place
    client, other = first.client(), second.client()
    kept = command(first, "quota", "grant", "domain:example.org", "12 recipients per hour", "--reason", "x")
    gone = command(first, "quota", "grant", "domain:example.org", "13 recipients per hour", "--reason", "y")
    command(second, "quota", "revoke", "--id", gone["id"], "--reason", "z")
    server.ask("FLUSHALL")
    for one, login in ((client, "alice"), (other, "bob")):
        until(one, login, login, "450 4.7.1 your domain example.org, all its senders together: used")
        began = time.monotonic()
        while " of 12 recipients per hour" not in answer(one, login, f"{login}.over"):
            assert time.monotonic() - began < PATIENCE
    for host in (first, second):
        assert [one["id"] for one in command(host, "quota", "grants")] == [kept["id"]]


def test_while_redis_is_away_a_grant_holds_on_the_host_that_goes_on_by_itself() -> None:
    server = Server().start()
    host = made(server, "mx1.example.org", unavailable="local").start()
    try:
        command(host, "quota", "grant", "domain:example.org", "3 recipients per hour", "--reason", "x")
        client = host.client()
        began = time.monotonic()
        # More than it may be with the grant or without: what is refused spends nothing until the host knows.
        while " may send 3 recipients per hour" not in answer(client, "bob", "over", recipient_count=11):
            assert time.monotonic() - began < PATIENCE
        until(client, "bob", "a", "450 4.7.1 your domain example.org, all its senders together: used 3 of 3")
        server.stop()
        command(host, "quota", "grant", "domain:example.org", "+1 recipient", "--reason", "while it is away")
        until(client, "bob", "b", "DUNNO")
        until(client, "bob", "c", "450 4.7.1 your domain example.org, all its senders together: used 4 of 4")
    finally:
        host.remove()
        server.remove()
