"""`unavailable: local`: a host goes on alone, never without a limit, and what it counted is added once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.redis.books import Books
from tests.redis.hosts import Host, end, request, send
from tests.redis.server import Server

PLAN = "100 recipients per hour"


@pytest.fixture
def place() -> Iterator[tuple[Server, Host, Books]]:
    server = Server("--appendonly", "yes", "--appendfsync", "always").start()
    host = Host(server, "t:", "mx1.example.org", unavailable="local").start()
    books = Books("t:", server)
    yield server, host, books
    books.close()
    host.remove()
    server.remove()


def used(books: Books, expected: int) -> None:
    until = time.monotonic() + 10
    while (got := books.used("login:alice", PLAN)) != expected:
        assert time.monotonic() < until, got
        time.sleep(0.1)


def test_a_host_goes_on_from_the_last_known_standing_and_adds_what_it_counted_once(place) -> None:
    server, host, books = place
    client = host.client()
    assert send(client, "alice", "before", 60)
    server.stop(signal.SIGKILL)
    host.policyd.wait_for("state=unavailable")
    answer = client.ask(**request("alice", "too-much", 41))
    assert answer.startswith("450 4.7.1 login alice: used 60 of 100 recipients per hour"), answer
    assert send(client, "alice", "meanwhile", 30)
    slow = host.client()
    assert slow.ask(**request("alice", "open", 10)) == "DUNNO"
    assert client.ask(**request("alice", "one-more", 1)).startswith("450 4.7.1 login alice: used 100 of 100")
    server.start()
    host.policyd.wait_for("store=redis state=ok", times=2)
    used(books, 100)
    assert slow.ask(**end(request("alice", "open", 10))) == "DUNNO"
    used(books, 100)
    assert not send(client, "alice", "after", 1)
    # Once, whatever happens again: what was added is not added, nor counted, a second time.
    server.stop(signal.SIGKILL)
    server.start()
    host.policyd.wait_for("store=redis state=ok", times=3)
    used(books, 100)
    assert books.used("login:alice", PLAN, later=3605) <= 100
    assert "Traceback" not in host.log


def test_what_was_reserved_in_redis_is_settled_there_and_not_here(place) -> None:
    server, host, books = place
    client = host.client()
    assert client.ask(**request("alice", 1, 5)) == "DUNNO"
    server.stop(signal.SIGKILL)
    host.policyd.wait_for("state=unavailable")
    assert client.ask(**end(request("alice", 1, 5))) == "DUNNO"
    server.start()
    host.policyd.wait_for("settle=late")
    used(books, 5)


def test_a_host_that_starts_without_redis_is_limited_all_the_same(place) -> None:
    server, host, books = place
    host.stop()
    server.stop(signal.SIGKILL)
    host.start(ready="state=unavailable")
    client = host.client()
    sent = sum(send(client, "alice", n, 10) for n in range(15))
    assert sent == 10
    server.start()
    host.policyd.wait_for("store=redis state=ok")
    used(books, 100)


def test_a_redis_that_comes_and_goes_opens_no_limit_anew(place) -> None:
    server, host, books = place
    client = host.client()
    assert send(client, "alice", "before", 60)
    for outage, admitted in enumerate((True, False, False), 1):
        server.stop(signal.SIGKILL)
        host.policyd.wait_for("state=unavailable", times=outage)
        assert send(client, "alice", f"outage{outage}", 40) == admitted
        server.start()
        host.policyd.wait_for("store=redis state=ok", times=outage + 1)
        used(books, 100)


def test_a_policyd_that_starts_while_redis_is_away_knows_what_the_one_before_was_told(place) -> None:
    server, host, _ = place
    assert send(host.client(), "alice", "before", 60)
    server.stop(signal.SIGKILL)
    host.policyd.wait_for("state=unavailable")
    host.stop()
    host.start(ready="state=unavailable")
    client = host.client()
    answer = client.ask(**request("alice", "too-much", 41))
    assert answer.startswith("450 4.7.1 login alice: used 60 of 100 recipients per hour"), answer
    assert send(client, "alice", "meanwhile", 40)
