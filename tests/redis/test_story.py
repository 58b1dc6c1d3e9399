"""Two mail hosts on one Redis, a real Postfix before each: the life of a limit, its block, and its end."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from smtplib import SMTP

import pytest

from ledger.events import ITSELF
from submitward import states
from tests.policyd.house import ROOT, Client
from tests.redis.hosts import Host, log_in, open_to_postfix, postfix, request, send
from tests.redis.server import Server
from tests.redis.test_blocks import command
from tests.submitward.test_events import Follower

PATIENCE = 15.0
PLAN = "4 recipients per hour, 5 recipients per 2 hours, 6 recipients per 3 hours"


class Place:
    def __init__(self, server: Server, hosts: tuple[Host, Host], ports: tuple[int, int]) -> None:
        self.server, self.hosts, self.ports = server, hosts, ports


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    server = Server().start()
    first, second = (Host(server, "t:", f"mx{n}.example.org", plan=PLAN) for n in (1, 2))
    try:
        first.start()
        second.start()
        with postfix(first) as one, postfix(second) as two:
            yield Place(server, (first, second), (one, two))
    finally:
        first.remove()
        second.remove()
        server.remove()


@contextlib.contextmanager
def logged_in(place: Place, login: str) -> Iterator[list[SMTP]]:
    """A connection to each host on which `login` has logged in."""
    with contextlib.ExitStack() as open_ones:
        yield [open_ones.enter_context(contextlib.closing(log_in(port, login))) for port in place.ports]


def offer(client: SMTP, login: str, recipients: int) -> tuple[int, str]:
    """A message as far as its first refusal, or to its end."""
    code, text = client.mail(f"{login}@example.org")
    for number in range(recipients if code == 250 else 0):
        code, text = client.rcpt(f"r{number}@elsewhere.example")
        if code != 250:
            break
    if code == 250:
        code, text = client.docmd("DATA")
    if code == 354:
        client.send("Subject: x\r\n\r\nHello.\r\n.\r\n")
        code, text = client.getreply()
    else:
        client.rset()
    return code, text.decode()


def incident(answer: tuple[int, str]) -> str:
    found = re.search(r"incident ([0-9A-F]{8})", answer[1])
    assert answer[0] == 450, answer
    assert found, answer
    return found[1]


def until_blocked(client: SMTP, login: str, is_blocked: bool, recipients: int = 1) -> tuple[float, str]:
    """Offer a message on this open connection until it is (not) refused for a block; how long that took."""
    began = time.monotonic()
    while True:
        code, text = offer(client, login, recipients)
        if (code == 554 and "is blocked from sending" in text) == is_blocked:
            return time.monotonic() - began, text
        assert time.monotonic() - began < PATIENCE, (code, text)
        time.sleep(0.02)


def spend(client: SMTP, login: str) -> None:
    code, text = offer(client, login, 3)
    assert code == 250, text


def test_three_tripped_windows_block_a_login_on_open_connections_of_both_hosts(place: Place) -> None:
    with logged_in(place, "alice") as (first, second):
        tripped(place, first, second)


def tripped(place: Place, first: SMTP, second: SMTP) -> None:
    spend(first, "alice")
    answers = [offer(first, "alice", 2), offer(second, "alice", 3), offer(first, "alice", 4)]
    for answer, limit in zip(answers, ("4 recipients", "5 recipients", "6 recipients"), strict=True):
        assert f"login alice: used 3 of {limit} per" in answer[1], answer
    known = list(map(incident, answers))
    block_id = ""
    for client in (first, second):
        _, text = until_blocked(client, "alice", True)
        assert "its limits were exceeded 3 times, sending reopens" in text
        block_id = re.findall(r"\(incident ([a-z2-9]{5})\)", text)[0]
    (block,) = command(place.hosts[1], "blocks")
    assert (block["id"], block["subject"], block["author"]) == (block_id, "login:alice", ITSELF)
    assert 3590 < block["end"] - block["start"] < 3610
    for host in place.hosts:  # whichever host the sender was refused on
        for one in known:
            found = command(host, "events", one)["event"]
            assert (found["kind"], found["subject"], found["used"]) == ("trip", "login:alice", 3)
        assert command(host, "events", block_id)["block"]["reason"].startswith(
            "3 windows tripped within 24 h"
        )
        (deed,) = command(host, "audit", "alice")
        assert (deed["author"], deed["action"], deed["id"]) == (ITSELF, "block", block_id)
    # Lifted, and it does not come back at once although the same limits go on refusing.
    command(place.hosts[1], "unblock", "alice", "--reason", "it was a newsletter")
    for client in (first, second):
        until_blocked(client, "alice", False)
    refused = [offer(first, "alice", 2), offer(second, "alice", 3), offer(second, "alice", 4)]
    assert {answer[0] for answer in refused} == {450}
    time.sleep(0.5)  # what is told aside would be told by now
    assert command(place.hosts[0], "blocks") == []
    kinds = [one["kind"] for one in command(place.hosts[0], "events", "--of", "alice")]
    assert kinds.count("block") == 1


@pytest.mark.parametrize("seed", range(3))
def test_two_hosts_that_see_the_third_trip_at_the_same_time_set_one_block(place: Place, seed: int) -> None:
    login = f"user{seed}"
    clients = [host.client() for host in place.hosts for _ in range(3)]
    assert send(clients[0], login, f"{login}.0", 3)
    start = threading.Barrier(len(clients))

    def trip(number: int) -> None:
        start.wait()
        for recipients in (2, 3, 4):
            asked = request(login, f"{login}.{number}.{recipients}", recipients)
            answer = clients[number].ask(**asked)
            assert answer.startswith(("450 4.7.1", "554 5.7.1 login")), answer

    lanes = [threading.Thread(target=trip, args=(n,)) for n in range(len(clients))]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join(PATIENCE)
    until = time.monotonic() + PATIENCE
    while (
        len([one for one in command(place.hosts[0], "events", "--of", login) if one["kind"] == "block"]) < 1
    ):
        assert time.monotonic() < until
    mine = [one for one in command(place.hosts[0], "blocks", "--all") if one["subject"] == f"login:{login}"]
    assert len(mine) == 1
    events = command(place.hosts[1], "events", "--of", login)
    assert len([one for one in events if one["kind"] == "block"]) == 1
    trips = [one["limit"] for one in events if one["kind"] == "trip"]
    assert len(set(trips)) == 3
    assert len(trips) <= 6, "one for each window, and one more where its number turned meanwhile"


def test_after_flushall_a_blocked_login_is_refused_on_its_open_connection(place: Place) -> None:
    with logged_in(place, "user5") as clients:
        command(place.hosts[0], "block", "user5", "--contact", "call 123")
        for client in clients:
            until_blocked(client, "user5", True)
        place.server.ask("FLUSHALL")
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            for client in clients:
                code, text = offer(client, "user5", 1)
                assert (code, "call 123" in text) == (554, True), text
        assert any(one["subject"] == "login:user5" for one in command(place.hosts[1], "blocks"))


def test_what_was_lifted_while_a_host_was_down_stays_lifted_on_it_after_flushall(place: Place) -> None:
    first, second = place.hosts
    with logged_in(place, "user6") as clients:
        command(first, "block", "user6")
        for client in clients:
            until_blocked(client, "user6", True)
        second.stop()
        command(first, "unblock", "user6")
        until_blocked(clients[0], "user6", False)
    place.server.ask("FLUSHALL")
    second.start()
    open_to_postfix(second)
    with logged_in(place, "user6") as (_, client):
        until_blocked(client, "user6", False)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            code, text = offer(client, "user6", 5)
            assert (code, "more than that" in text) == (554, True), "the plan's refusal, not the block's"
        assert offer(client, "user6", 1)[0] == 250


def test_what_was_changed_on_one_host_is_in_the_audit_trail_of_the_other(place: Place) -> None:
    first, second = place.hosts
    made = command(first, "app-password", "add", "user8", "--label", "phone")
    command(first, "app-password", "revoke", "user8", made["id"])
    command(first, "auth", "flush", "user8")
    command(first, "quota", "reset", "user8", "--reason", "asked")
    block = command(first, "block", "user8", "--reason", "spam")
    command(second, "unblock", "user8", "--reason", "paid")
    deeds = command(second, "audit", "user8")
    assert [(deed["action"], deed["id"], deed["reason"]) for deed in deeds] == [
        ("app-password add", made["id"], "phone"),
        ("app-password revoke", made["id"], ""),
        ("auth flush", "", ""),
        ("reset", "", "asked"),
        ("block", block["id"], "spam"),
        ("lift", block["id"], "paid"),
    ]
    assert {deed["author"] for deed in deeds} == {deeds[0]["author"]}
    assert deeds[0]["author"]
    assert deeds == sorted(deeds, key=lambda deed: deed["at"])


SUBJECTS = [
    ("domain:example.org", "554", {}),
    ("relay", "554", {}),
    ("network:192.0.2.0/24", "450", {"client_address": "192.0.2.7"}),
    (f"certificate:{'ab' * 32}", "450", {"ccert_fingerprint": ":".join(["AB"] * 32)}),
]


@pytest.mark.parametrize(("subject", "code", "more"), SUBJECTS, ids=[one[0][:12] for one in SUBJECTS])
def test_every_kind_of_block_is_effective_within_a_second_on_open_connections_of_both(
    place: Place, subject: str, code: str, more: dict[str, str]
) -> None:
    clients = [host.client() for host in place.hosts]
    number = iter(range(10**6))

    def ask(client) -> str:
        asked = request("user7", f"{subject}{next(number)}", 1, **more)
        return client.ask(**asked | {"protocol_state": "RCPT", "recipient": "x@example.com"})

    assert [ask(client) for client in clients] == ["DUNNO"] * 2
    command(place.hosts[0], "block", subject, "--for", "1 h")
    began = time.monotonic()
    try:
        for client in clients:
            while (answer := ask(client)) == "DUNNO":
                assert time.monotonic() - began < 1
            assert answer.startswith(code), answer
            assert "blocked" in answer
    finally:
        command(place.hosts[1], "unblock", subject)
    until = time.monotonic() + PATIENCE
    for client in clients:
        while ask(client) != "DUNNO":
            assert time.monotonic() < until


def test_who_follows_on_one_host_hears_of_the_other_and_through_an_outage() -> None:
    server = Server().start()
    hosts = [Host(server, "t:", f"mx{n}.example.org", plan=PLAN, unavailable="local") for n in (1, 2)]
    followers: list[Follower] = []
    try:
        client = hosts[0].start().client()
        trip(client, "user1", 1)
        followers = [Follower(hosts[1].settings), Follower(hosts[1].settings, "--of", "user2")]
        followers[0].wait("login:user1")
        trip(client, "user2", 2)
        followers[1].wait("login:user2")
        server.stop()
        for one in followers:
            one.wait("It is tried again")
        hosts[0].policyd.wait_for("state=unavailable")
        trip(client, "user3", 3)
        server.start()
        followers[0].wait("login:user3  3 used of 4 recipients per hour")
        assert "user3" not in followers[1].out.read_text()
        assert followers[0].out.read_text().count("login:user3") == 1
    finally:
        ends = [one.end() for one in followers]
        for host in hosts:
            host.remove()
        server.remove()
    assert ends == [0, 0]


def trip(client: Client, login: str, number: int) -> None:
    assert send(client, login, f"sent{number}", 3)
    assert client.ask(**request(login, f"refused{number}", 2)).startswith("450 4.7.1")


@pytest.mark.parametrize(
    ("unavailable", "code", "word"), [("defer", 75, "unavailable"), ("local", 1, "degraded")]
)
def test_while_redis_is_away_log_metric_and_status_say_degraded(
    unavailable: str, code: int, word: str
) -> None:
    def status() -> tuple[int, dict]:
        words = [sys.executable, "-m", "submitward", "--settings", str(host.settings), "status", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
        return done.returncode, json.loads(done.stdout)

    server = Server().start()
    host = Host(server, "t:", "mx1.example.org", plan=PLAN, unavailable=unavailable).start()
    try:
        command(host, "block", "alice")
        assert status()[0] == 0
        server.stop()
        host.policyd.wait_for("event=state")
        assert f'state="degraded ledger={word}"' in host.log
        assert b"submitward_degraded 1.0" in states._get(f"unix:{host.home}/metrics", "/metrics")
        got, told = status()
        assert (got, told["status"], told["blocks"]) == (code, word, 1)
        assert told["ledger"]["state"].startswith(word)
        assert told["sidecars"]["policyd"]["state"] == "degraded"
        if unavailable == "local":
            client = host.client()
            assert send(client, "user1", 1, 3)
            id = client.ask(**request("user1", 2, 2)).rpartition(" ")[2]
            host.policyd.wait_for("limit_trip")
            assert command(host, "events", id)["event"]["used"] == 3, "found here, while Redis is away"
        server.start()
        host.policyd.wait_for("store=redis state=ok", times=2)
        if unavailable == "local":
            other = Host(server, "t:", "mx2.example.org", plan=PLAN)
            until = time.monotonic() + PATIENCE
            while not (found := command(other, "events", "--of", "user1")):
                assert time.monotonic() < until
            assert [one["id"] for one in found] == [id], "and everywhere once it is back"
            other.remove()
    finally:
        host.remove()
        server.remove()
