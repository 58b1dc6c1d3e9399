"""What AUTH keeps in a ledger, told once and run against each store that keeps it."""

import sqlite3

import pytest
import pytest_twisted
from twisted.internet import reactor

from ledger import auth_script, schema
from ledger.app_passwords import (
    AppPassword,
    digest_of,
    format_app_password,
    is_secret_of,
    parse_app_password,
)
from ledger.marks import Mark, Seen
from ledger.sqlite import SqliteLedger
from tests.ledger.stores import STORES, Lines, TestClock

SECRET = bytes(range(16))
KEY = bytes(32)
CARD = AppPassword("abcdefgh", "alice", digest_of(SECRET, KEY), "card", ("192.0.2.0/24",), ("a@example.org",))


@pytest.fixture
def clock():
    return TestClock()


#: A store joins by its name here.
@pytest_twisted.async_yield_fixture(params=["model", "sqlite", "redis"])
async def ledger(request, clock, tmp_path):
    store = STORES[request.param](clock, tmp_path)
    store.start()
    yield store
    await store.stop()


async def count(ledger, key):
    return (await ledger.guard_look(((key, ""),)))[0].count


@pytest_twisted.ensureDeferred
async def test_marks_are_counted_by_key_and_end(ledger, clock):
    assert await ledger.guard_note((Mark("a", "x", 60), Mark("a", "y", 30), Mark("b", "x", None)))
    looked = await ledger.guard_look((("a", "x"), ("a", "z"), ("b", "x"), ("c", "")))
    assert looked == (Seen(2, True), Seen(2, False), Seen(1, True), Seen(0, False))
    clock.advance(31)
    assert await ledger.guard_look((("a", "y"),)) == (Seen(1, False),)
    clock.advance(86400 * 365)
    assert [await count(ledger, key) for key in "ab"] == [0, 1]
    assert await ledger.guard_names("b") == ("x",)


@pytest_twisted.ensureDeferred
async def test_a_mark_that_is_noted_again_counts_once_and_lasts_anew(ledger, clock):
    await ledger.guard_note((Mark("a", "x", 60),))
    clock.advance(50)
    await ledger.guard_note((Mark("a", "x", 60),))
    assert await count(ledger, "a") == 1
    clock.advance(50)
    assert await count(ledger, "a") == 1


@pytest_twisted.ensureDeferred
async def test_where_one_would_be_too_many_none_is_taken(ledger, clock):
    assert await ledger.guard_note((Mark("a", "1", 60, 2),))
    assert await ledger.guard_note((Mark("a", "2", 60, 2), Mark("b", "1", 60)))
    assert not await ledger.guard_note((Mark("b", "2", 60), Mark("a", "3", 60, 2)))
    assert await ledger.guard_note((Mark("a", "2", 60, 2),))
    assert [await count(ledger, key) for key in "ab"] == [2, 1]
    clock.advance(61)
    assert await ledger.guard_note((Mark("a", "3", 60, 2),))


@pytest_twisted.ensureDeferred
async def test_a_bound_holds_against_all_who_come_at_once(ledger):
    asked = [ledger.guard_note((Mark("a", str(number), 60, 4),)) for number in range(20)]
    assert sum([await one for one in asked]) == 4


@pytest_twisted.ensureDeferred
async def test_marks_are_dropped_one_by_one_or_all(ledger):
    await ledger.guard_note((Mark("a", "x", 60), Mark("a", "y", 60), Mark("b", "x", 60)))
    await ledger.guard_drop((("a", "x"), ("c", "x")))
    assert await ledger.guard_names("a") == ("y",)
    await ledger.guard_drop((("a", ""),))
    assert [await count(ledger, key) for key in "ab"] == [0, 1]


@pytest_twisted.ensureDeferred
async def test_a_secret_is_made_once(ledger):
    one = await ledger.secret("guard")
    assert len(one) == 32
    assert await ledger.secret("guard") == one != await ledger.secret("other")


def test_a_secret_of_a_shared_ledger_may_begin_with_any_octet():
    for octet in range(256):
        answer = b"=" + bytes([octet]) * 32
        assert auth_script.read_secret(answer) == answer[1:]


@pytest_twisted.ensureDeferred
async def test_an_app_password_lives_and_is_revoked_for_good(ledger, clock):
    heard = []
    ledger.watch(lambda generation, blocks: heard.append(generation))
    assert await ledger.keep_app_password(CARD, "root")
    assert not await ledger.keep_app_password(CARD, "root")
    (kept,) = await ledger.app_passwords("alice")
    assert (kept.digest, kept.networks, kept.senders, kept.label) == (
        CARD.digest,
        CARD.networks,
        CARD.senders,
        "card",
    )
    assert kept.made == clock.now
    assert kept.holds(clock.now)
    assert await ledger.app_passwords("bob") == ()
    await ledger.use_app_password("alice", kept.id, "192.0.2.7")
    assert (await ledger.app_passwords("alice"))[0].used_from == "192.0.2.7"
    assert not await ledger.revoke_app_password("bob", kept.id, "root")
    assert await ledger.revoke_app_password("alice", kept.id, "root")
    assert not await ledger.revoke_app_password("alice", kept.id, "root")
    assert not (await ledger.app_passwords("alice"))[0].holds(clock.now)


def test_an_app_password_is_told_by_its_form_alone():
    text = format_app_password("abcdefgh", SECRET)
    assert parse_app_password(text.encode()) == ("abcdefgh", SECRET)
    for other in text[:-1], text + "0", text.upper(), "pass", "", "abcdefgl" + text[8:], text + "\n":
        assert parse_app_password(other.encode()) is None


def test_only_the_secret_of_the_kept_one_fits():
    assert is_secret_of(CARD, SECRET, KEY)
    assert not is_secret_of(CARD, bytes(16), KEY)
    assert not is_secret_of(CARD, SECRET, b"x" * 32)
    assert not is_secret_of(None, SECRET, KEY)


def test_nothing_of_an_app_password_can_be_printed():
    assert repr(CARD) == "<AppPassword abcdefgh of 'alice'>"


@pytest_twisted.ensureDeferred
async def test_a_ledger_of_the_first_version_is_brought_up_to_date(tmp_path, clock):
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    for statement in (*schema.TABLES, "PRAGMA user_version = 1"):
        connection.execute(statement)
    connection.commit()
    connection.close()
    ledger = SqliteLedger(path, reactor=reactor, log=Lines(), clock=clock)
    ledger.start()
    assert await ledger.guard_note((Mark("a", "x", 60),))
    await ledger.stop()
