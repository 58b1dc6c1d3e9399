"""Blocks, reload, drain, and the words about its own health."""

import dataclasses
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from directory.identity import Principal, Unavailable, Verified
from directory.settings import DirectorySettings, FileSettings
from ledger.settings import LedgerSettings, SqliteSettings
from saslauthd.settings import AuthSettings
from sidecar.problems import Problem, SettingsError
from tests.saslauthd.stage import Directory, Ledger, block, stage
from tests.saslauthd.test_server import OK, plain, until


def away_at_once() -> Deferred[Principal]:
    return fail(Unavailable("a test"))


def away_later() -> Deferred[Principal]:
    waiting: Deferred[Principal] = Deferred()
    reactor.callLater(0.01, waiting.errback, Unavailable("a test"))
    return waiting


NO = b"FAIL\t1\tuser=alice\treason=Login or password not accepted; check both, or ask your postmaster"


@pytest.mark.parametrize(
    ("stops", "answer"),
    [
        ((), OK),
        ((block("login:alice", "sending"),), OK),
        ((block("login:bob", "login"),), OK),
        ((block("login:alice", "login", 0.0, 1.0),), OK),
        ((block("login:alice", "login", 9e12),), OK),
        ((block("login:alice", "login"),), NO),
        ((block("login:alice", "login", 0.0, 9e12), block("login:alice", "sending")), NO),
        ((block("domain:example.org", "sending"), block("relay", "sending")), OK),
        ((block("domain:example.net", "login"),), OK),
        ((block("domain:example.org", "login", 0.0, 1.0), block("relay", "login", 0.0, 1.0)), OK),
        ((block("domain:example.org", "login"),), NO),
        ((block("relay", "login"),), NO),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_a_block_of_extent_login_that_holds_makes_auth_fail(stops, answer):
    async with stage(reactor, Ledger(stops)) as set_up:
        client = await set_up.greeted()
        client.send(plain(1))
        assert await client.line() == answer
        assert ("reason=blocked login=alice" in set_up.log) == (answer == NO)


@pytest_twisted.ensureDeferred
async def test_a_login_without_a_domain_is_stopped_by_no_domain():
    async with stage(reactor, Ledger((block("domain:example.org", "login"),))) as set_up:
        set_up.directory.domains["alice"] = Principal("login", "alice")
        client = await set_up.greeted()
        client.send(plain(1))
        assert await client.line() == OK


@pytest.mark.parametrize("answer", [None, away_at_once, away_later])
@pytest_twisted.ensureDeferred
async def test_who_is_verified_and_cannot_be_looked_up_is_told_to_try_later(answer):
    async with stage(reactor) as set_up:
        set_up.directory.domains["alice"] = answer and answer()
        client = await set_up.greeted()
        client.send(plain(1))
        await client.closed()
        assert client.received == b""
        assert "Traceback" not in set_up.log


@pytest_twisted.ensureDeferred
async def test_a_block_holds_on_an_open_connection_and_so_does_its_lifting():
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        for told, answer in ((), OK), ((block("login:alice", "login"),), NO), ((), OK):
            set_up.ledger.tell(*told)
            client.send(plain(1))
            assert await client.line() == answer


@pytest_twisted.ensureDeferred
async def test_a_block_that_comes_while_the_password_is_judged_holds():
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        client.send(plain(1, "stuck"))
        await until(lambda: set_up.directory.held)
        set_up.ledger.tell(block("login:stuck", "login"))
        set_up.directory.held[0][1].callback(Verified("stuck"))
        assert (await client.line()).startswith(b"FAIL\t1\tuser=stuck\treason=")


@pytest_twisted.ensureDeferred
async def test_a_block_holds_for_the_name_that_goes_out_and_for_the_one_that_came_in():
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        for blocked in "stuck", "carol":
            set_up.ledger.tell(block(f"login:{blocked}", "login"))
            client.send(plain(1, "stuck"))
            await until(lambda: set_up.directory.held)
            set_up.directory.held.pop()[1].callback(Verified("carol"))
            assert (await client.line()).startswith(b"FAIL\t1\tuser=carol\treason=")


@pytest_twisted.ensureDeferred
async def test_who_is_blocked_cannot_be_learned_without_the_password():
    async with stage(reactor, Ledger((block("login:alice", "login"),))) as set_up:
        client = await set_up.greeted()
        client.send(plain(1, password="x"))
        assert await client.line() == NO
        assert set_up.directory.asked == ["alice"]
        assert "reason=wrong_password" in set_up.log


@pytest_twisted.ensureDeferred
async def test_while_the_blocks_were_never_read_nobody_gets_in_and_nobody_is_refused():
    async with stage(reactor, Ledger(None)) as set_up:
        for password in "pass", "wrong":
            client = await set_up.greeted()
            client.send(plain(1, password=password))
            await client.closed()
            assert client.received == b""
        set_up.ledger.tell()
        client = await set_up.greeted()
        client.send(plain(1))
        assert await client.line() == OK


@pytest_twisted.ensureDeferred
async def test_right_after_the_start_auth_waits_for_the_blocks():
    async with stage(reactor, Ledger(None)) as set_up:
        good, bad, leaving = [await set_up.greeted() for _ in range(3)]
        leaving.send(plain(1))
        good.send(plain(1))
        bad.send(plain(1, password="x"))
        await deferLater(reactor, 0.05)
        assert set_up.directory.asked == []
        await leaving.leave()
        await until(lambda: len(set_up.factory.connections) == 2)
        set_up.ledger.tell()
        assert await good.line() == OK
        assert await bad.line() == NO


@pytest_twisted.ensureDeferred
async def test_drain_answers_what_is_in_flight_then_closes_and_lets_go():
    async with stage(reactor) as set_up:
        busy, idle, waiting = [await set_up.greeted() for _ in range(3)]
        busy.send(plain(1, "stuck"))
        waiting.send(b"AUTH\t1\tLOGIN\tservice=smtp\tsecured\n")
        await waiting.line()
        await until(lambda: set_up.directory.held)
        drained = set_up.service.drain()
        await idle.closed()
        await waiting.closed()
        busy.send(plain(2))
        await deferLater(reactor, 0.01)
        assert not drained.called
        assert not set_up.directory.stopped
        set_up.directory.held[0][1].callback(Verified("stuck"))
        await busy.closed()
        assert busy.received == b"OK\t1\tuser=stuck\n"
        await drained
        assert set_up.directory.stopped
        assert set_up.ledger.stopped


@pytest_twisted.ensureDeferred
async def test_drain_with_nobody_there_is_done_at_once():
    async with stage(reactor) as set_up:
        await set_up.service.drain()


@pytest_twisted.ensureDeferred
async def test_reload_opens_a_store_again_only_if_its_section_changed():
    async with stage(reactor) as set_up:
        directory, ledger = set_up.directory, set_up.ledger
        set_up.directory, set_up.ledger = Directory(), Ledger(None)
        set_up.service.reload()
        assert not directory.stopped
        assert not ledger.stopped
        elsewhere = DirectorySettings(file=FileSettings(path=Path("/elsewhere")))
        set_up.settings = dataclasses.replace(set_up.settings, directory=elsewhere)
        set_up.service.reload()
        assert directory.stopped
        assert not ledger.stopped
        elsewhere = LedgerSettings(sqlite=SqliteSettings(path=Path("/elsewhere")))
        set_up.settings = dataclasses.replace(set_up.settings, ledger=elsewhere)
        set_up.service.reload()
        assert ledger.stopped


@pytest_twisted.ensureDeferred
async def test_after_reload_the_old_blocks_hold_until_the_new_ledger_tells_its_own():
    async with stage(reactor, Ledger((block("login:alice", "login"),))) as set_up:
        old, set_up.ledger = set_up.ledger, Ledger(None)
        elsewhere = LedgerSettings(sqlite=SqliteSettings(path=Path("/elsewhere")))
        set_up.settings = dataclasses.replace(set_up.settings, ledger=elsewhere)
        set_up.service.reload()
        client = await set_up.greeted()
        old.tell()
        client.send(plain(1))
        assert await client.line() == NO
        set_up.ledger.tell()
        client.send(plain(1))
        assert await client.line() == OK


@pytest_twisted.ensureDeferred
async def test_a_new_ledger_that_is_away_leaves_the_blocks_of_the_old_one_alive():
    async with stage(reactor) as set_up:
        old, set_up.ledger = set_up.ledger, Ledger((block("login:bob", "login"),))
        set_up.ledger.is_away = True
        elsewhere = LedgerSettings(sqlite=SqliteSettings(path=Path("/elsewhere")))
        set_up.settings = dataclasses.replace(set_up.settings, ledger=elsewhere)
        set_up.service.reload()
        client = await set_up.greeted()
        for told, answer in ((), OK), ((block("login:alice", "login"),), NO), ((), OK):
            old.tell(*told)
            client.send(plain(1))
            assert await client.line() == answer
        assert not old.stopped
        set_up.ledger.is_away = False
        await until(lambda: old.stopped)
        set_up.ledger.tell(block("login:alice", "login"))
        client.send(plain(1))
        assert await client.line() == NO


@pytest_twisted.ensureDeferred
async def test_drain_lets_go_of_a_ledger_that_was_on_its_way():
    async with stage(reactor) as set_up:
        old, set_up.ledger = set_up.ledger, Ledger()
        set_up.ledger.is_away = True
        elsewhere = LedgerSettings(sqlite=SqliteSettings(path=Path("/elsewhere")))
        set_up.settings = dataclasses.replace(set_up.settings, ledger=elsewhere)
        set_up.service.reload()
        await set_up.service.drain()
        assert old.stopped
        assert set_up.ledger.stopped


@pytest_twisted.ensureDeferred
async def test_reload_changes_the_rules_of_open_connections_and_the_greeting_of_new_ones():
    async with stage(reactor) as set_up:
        client = await set_up.greeted()
        client.send(plain(1, more=""))
        assert b"Encryption" in await client.line()
        auth = AuthSettings(mechanisms=("plain",), require_tls=False)
        set_up.settings = dataclasses.replace(set_up.settings, auth=auth)
        set_up.service.reload()
        client.send(plain(1, more=""))
        assert await client.line() == OK
        fresh = await set_up.connect()
        await fresh.until(lambda: fresh.received.endswith(b"DONE\n"))
        assert b"LOGIN" not in fresh.received


@pytest_twisted.ensureDeferred
async def test_wrong_settings_change_nothing():
    async with stage(reactor) as set_up:

        def broken():
            raise SettingsError([Problem("config.yaml", 3, 1, "auth", "is wrong")])

        set_up.service._load = broken
        with pytest.raises(SettingsError):
            set_up.service.reload()
        client = await set_up.greeted()
        client.send(plain(1))
        assert await client.line() == OK


@pytest_twisted.ensureDeferred
async def test_it_is_healthy_and_honest_while_a_store_is_away():
    async with stage(reactor) as set_up:
        assert set_up.service.state() == "ok"
        set_up.directory.is_away = True
        assert set_up.service.state() == "degraded directory=unavailable"
        assert set_up.service.healthy()
