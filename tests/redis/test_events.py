"""Events in Redis, and what becomes of them while it is away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from ledger import event_script
from ledger.events import Event
from ledger.script import Clock
from ledger.settings import LedgerSettings, RedisSettings
from ledger.shared import SharedLedger
from ledger.sqlite import SqliteLedger
from tests.ledger.stores import Lines
from tests.redis.books import Books
from tests.redis.server import Server, running

A = Event("A", "trip", "login:alice", mta="mx1", limit="100 recipients per hour", used=100)


@pytest.fixture
def books():
    server = running()
    books = Books(server.prefix(), server)
    yield books
    books.close()


def after(books, serial, most=100):
    _, last, *flat = books.run(None, *event_script.after(serial, most))
    return int(last), [one.id for one in event_script.read_events(flat, Clock())]


def test_who_follows_reads_on_from_the_last_serial_and_sees_that_redis_was_emptied(books):
    for id in "ABC":
        books.run(None, *event_script.note(replace(A, id=id)))
    assert after(books, 0, 2) == (3, ["A", "B"])
    assert after(books, 2) == (3, ["C"])
    assert after(books, 3) == (3, [])
    books.client.delete(*books.client.keys(f"{books.meta[:-4]}*"))
    assert after(books, 3) == (0, [])


def test_the_oldest_events_go_for_the_newest(books):
    books.client.hset(books.meta, "events", 0)
    for id in "AB":
        books.run(None, *event_script.note(replace(A, id=id)))
    books.client.hset(books.meta, "events", 20_000)
    books.run(None, *event_script.note(replace(A, id="C")))
    assert after(books, 0)[1] == ["B", "C"]
    assert not books.run(None, *event_script.find("A"))


def test_an_event_that_is_too_old_goes_with_the_next_one(books):
    books.run(1e9, *event_script.note(A))
    books.run(1e9 + 32 * 86400, *event_script.note(replace(A, id="B", subject="login:bob")))
    assert after(books, 0)[1] == ["B"]


async def eventually(true):
    for _ in range(400):
        if true():
            return
        await deferLater(reactor, 0.02, lambda: None)
    raise AssertionError("it never came true")


@pytest_twisted.ensureDeferred
async def test_what_is_noted_while_redis_is_away_is_told_to_it_when_it_is_back(tmp_path):
    server = Server()
    settings = LedgerSettings("redis", redis=RedisSettings(f"unix://{server.socket}", prefix="t:"))
    local = SqliteLedger(tmp_path / "ledger.sqlite", reactor=reactor, log=Lines())
    ledger = SharedLedger(settings, local=local, reactor=reactor, log=Lines())
    ledger.start()
    try:
        await eventually(lambda: ledger.runner.trouble and local.state() == "ok")
        for number in range(100):
            assert await ledger.note_event(replace(A, id=f"N{number}"))
        assert not await ledger.note_event(replace(A, id="N7"))
        assert len(await ledger.events_of("login:alice")) == 100
        moments = {one.id: one.at for one in await ledger.events_of("login:alice")}
        server.start()
        await eventually(lambda: ledger.runner.reached)
        for _ in range(400):
            if not await local.events_after(0, 1) and len(await ledger.events_of("login:alice")) == 100:
                break
            await deferLater(reactor, 0.02, lambda: None)
        found = {one.id: one.at for one in await ledger.events_of("login:alice")}
        assert found == pytest.approx(moments, abs=0.01), "each once, as of when it happened"
        assert await local.events_after(0, 1) == ()
    finally:
        await ledger.stop()
        server.remove()
