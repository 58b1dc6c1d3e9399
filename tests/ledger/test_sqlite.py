"""The SQLite ledger in its process: the thread, the file, and every trouble the file can be in."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

import ledger.book
import ledger.clerk
from ledger.blocks import Block
from ledger.bookfile import open_book
from ledger.charges import Admitted, Amounts, ChargeId, Refused, Submission, Unavailable
from ledger.limits import parse_limit
from ledger.settings import LedgerSettings, SqliteSettings, open_ledger
from ledger.sqlite import SqliteLedger
from tests.ledger.stores import START, Lines, TestClock

ALICE = Submission("login:alice", "alice@example.org")
HOUR = parse_limit("1000 recipients per hour")
LIMITS = (("login:alice", HOUR, True),)
BLOCK = Block("", "login:alice", "sending", "root", "spam", "", START, None)


def charge(number):
    return ChargeId("mx1", f"i{number}", f"Q{number}")


def reserve(store, number, recipients=1):
    return store.reserve(charge(number), ALICE, Amounts(1, recipients, 0), LIMITS)


async def used(store):
    return (await store.standing((("login:alice", HOUR),)))[0].used


async def until(condition, seconds=5.0):
    """Wait until `condition()` holds; what users see within a deadline is tried for that long."""
    deadline = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < deadline, "it did not happen in time"
        await deferLater(reactor, 0.02, lambda: None)


async def unavailable(deferred):
    with pytest.raises(Unavailable) as error:
        await deferred
    return str(error.value)


@pytest.fixture
def log():
    return Lines()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger" / "ledger.sqlite"


@pytest.fixture
def directory(path):
    path.parent.mkdir()
    return path.parent


@pytest_twisted.async_yield_fixture
async def make(path, log):
    """Makes started stores on `path`, and stops them."""
    made = []

    def make(clock=None):
        store = SqliteLedger(path, reactor=reactor, log=log, clock=clock)
        store.start()
        made.append(store)
        return store

    yield make
    await gatherResults([store.stop() for store in made])


@pytest_twisted.ensureDeferred
async def test_what_is_charged_outlives_the_process(make, directory):
    await reserve(make(), 1, 7)
    await make().stop()
    assert await used(make()) == 7


@pytest_twisted.ensureDeferred
async def test_the_settings_open_this_store(path, directory, log):
    store = open_ledger(LedgerSettings(sqlite=SqliteSettings(path=path)), reactor=reactor, log=log)
    assert isinstance(store, SqliteLedger)
    store.start()
    assert await used(store) == 0
    assert store.state() == "ok"
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_before_start_and_after_stop_every_verb_is_unavailable(path, directory, log):
    store = SqliteLedger(path, reactor=reactor, log=log)
    await unavailable(reserve(store, 1))
    await store.stop()
    store = SqliteLedger(path, reactor=reactor, log=log)
    store.start()
    await store.stop()
    await unavailable(reserve(store, 1))
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_stopping_finishes_what_is_queued(make, directory):
    store = make()
    waiting = [reserve(store, number) for number in range(1000)]
    await store.stop()
    assert all(isinstance(deferred.result, Admitted) for deferred in waiting)


@pytest_twisted.ensureDeferred
async def test_waiting_for_the_file_makes_no_new_message_old(make, directory, monkeypatch):
    clock = TestClock()
    store, waiting = make(clock), []
    await reserve(store, 1)
    clock.advance(1.0)
    with monkeypatch.context() as patched:
        patched.setattr(store._clerk, "hand", lambda *verb: not waiting.append(verb))
        refunded = store.refund_untaken("mx1", 0.5)
    clock.advance(3.0)
    await reserve(store, 2)
    clock.advance(3.0)
    store._clerk.hand(*waiting[0])
    assert await refunded == 1
    assert await used(store) == 1


@pytest_twisted.ensureDeferred
async def test_many_messages_that_nobody_took_up_are_given_back_by_and_by(make, directory):
    store = make()
    most = ledger.book.UNTAKEN_AT_ONCE
    await gatherResults([reserve(store, number) for number in range(most - 1)])
    await gatherResults([reserve(store, number, 0) for number in range(most, most + 3)])
    counts = [await store.refund_untaken("mx1", 0.0) for _ in range(3)]
    assert counts == [most, 2, 0]
    assert await used(store) == 0


@pytest_twisted.ensureDeferred
async def test_a_cancelled_request_disturbs_no_other(make, directory):
    store = make()
    waiting = [reserve(store, number) for number in range(20)]
    waiting[7].addErrback(lambda failure: failure.trap(CancelledError))
    waiting[7].cancel()
    rest = await gatherResults(waiting[:7] + waiting[8:])
    assert all(isinstance(answer, Admitted) for answer in rest)
    assert await used(store) == 20


@pytest_twisted.ensureDeferred
async def test_a_request_that_cannot_be_kept_disturbs_no_other(make, directory, log):
    store = make()
    before = reserve(store, 1)
    broken = store.reserve(charge(2), ALICE, Amounts("many", 1, 0), LIMITS)
    after = reserve(store, 3)
    assert "cannot be kept" in await unavailable(broken)
    assert isinstance(await before, Admitted)
    assert isinstance(await after, Admitted)
    assert await used(store) == 2
    assert store.state() == "ok"
    assert "cannot be kept" in log.text()


@pytest_twisted.ensureDeferred
async def test_requests_that_wait_together_are_judged_one_after_the_other(make, directory):
    store = make()
    answers = await gatherResults([reserve(store, number, 10) for number in range(150)])
    assert sum(isinstance(answer, Admitted) for answer in answers) == 100
    assert sum(isinstance(answer, Refused) for answer in answers) == 50


@pytest_twisted.ensureDeferred
async def test_a_missing_directory_is_unavailable_and_mends_itself(make, path, log):
    store = make()
    await unavailable(reserve(store, 1))
    await until(lambda: "state" in log.text())
    assert store.state() == "unavailable"
    assert f"install -d -m 2770 -g submitward {path.parent}" in log.text()
    path.parent.mkdir()
    await until(lambda: store.state() == "ok")
    assert isinstance(await reserve(store, 1), Admitted)


@pytest_twisted.ensureDeferred
async def test_a_store_that_stays_away_is_logged_once_and_answers_at_once(make, log):
    store = make()
    for _ in range(200):
        await unavailable(reserve(store, 1))
    await deferLater(reactor, 0.8, lambda: None)
    assert len([line for line in log.lines if line[0] == "error"]) == 1


@pytest_twisted.ensureDeferred
async def test_a_deleted_file_is_made_again(make, path, directory, log):
    store = make()
    await reserve(store, 1)
    path.unlink()
    await until(path.exists)
    await until(lambda: "deleted or replaced" in log.text())
    assert isinstance(await reserve(store, 2), Admitted)
    assert await used(store) == 1


@pytest_twisted.ensureDeferred
async def test_two_stores_meet_again_in_the_file_that_replaces_a_deleted_one(make, path, directory, log):
    first, second = make(), make()
    await gatherResults([reserve(first, 1), reserve(second, 2)])
    path.unlink()
    await until(lambda: log.text().count("deleted or replaced") == 2)
    await gatherResults([reserve(first, 3), reserve(second, 4)])
    assert await used(first) == await used(second) == 2
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest_twisted.ensureDeferred
async def test_a_file_locked_by_another_is_unavailable_within_a_second_or_two(make, path, directory, log):
    store = make()
    await reserve(store, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = reactor.seconds()
    assert "locked" in await unavailable(reserve(store, 2))
    assert reactor.seconds() - began < 3
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: store.state() == "ok")
    assert isinstance(await reserve(store, 2), Admitted)
    assert await used(store) == 2


@pytest_twisted.ensureDeferred
async def test_too_many_waiting_requests_are_unavailable_at_once(make, path, directory, monkeypatch):
    monkeypatch.setattr(ledger.clerk, "QUEUE", 10)
    store = make()
    await reserve(store, 0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    reserve(store, 1).addErrback(lambda failure: failure.trap(Unavailable))
    await deferLater(reactor, 0.1, lambda: None)
    waiting = [reserve(store, number) for number in range(2, 14)]
    assert [deferred.called for deferred in waiting] == [False] * 10 + [True] * 2
    other.execute("ROLLBACK")
    other.close()
    for deferred in waiting[10:]:
        await unavailable(deferred)
    assert all(isinstance(answer, Admitted) for answer in await gatherResults(waiting[:10]))


WRONG = {
    "no database": (b"this is not a database at all, " * 200, "left as it is"),
    "half a page": (b"SQLite format 3\0" + b"\x10\x00\x02\x02", "left as it is"),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", sorted(WRONG))
async def test_a_damaged_file_is_unavailable_and_left_as_it_is(make, path, directory, log, name):
    content, words = WRONG[name]
    path.write_bytes(content)
    store = make()
    await unavailable(reserve(store, 1))
    await until(lambda: words in log.text())
    await deferLater(reactor, 0.6, lambda: None)
    assert path.read_bytes() == content
    assert store.state() == "unavailable"


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_damaged_while_it_is_used_is_unavailable(make, path, directory):
    store = make()
    await reserve(store, 1)
    await store.stop()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    await unavailable(reserve(make(), 2))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("pragma", "words"),
    [
        ("user_version = 99", "newer Submitward"),
        ("application_id = 1", "another program's database"),
    ],
)
async def test_another_schema_is_refused_and_left_as_it_is(make, path, directory, log, pragma, words):
    await make().stop()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    store = make()
    assert words in await unavailable(reserve(store, 1))
    await until(lambda: words in log.text())


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_unavailable_and_what_was_charged_stays(make, path, directory, log):
    store = make()
    await reserve(store, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("ledger.sqlite-wal").stat().st_size, limits[1]))
    try:
        await unavailable(reserve(store, 2))
        await until(lambda: "disk" in log.text())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await until(lambda: store.state() == "ok")
    assert isinstance(await reserve(store, 3), Admitted)
    assert await used(store) == 2


@pytest_twisted.ensureDeferred
async def test_a_file_that_may_only_be_read_is_unavailable(make, path, directory, log):
    store = make()
    await reserve(store, 1)
    await store.stop()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    # root writes where it may not, so the header says it: a write version that SQLite only reads
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")
    assert "readonly" in await unavailable(reserve(make(), 2))
    await until(lambda: "must be writable" in log.text())


@pytest_twisted.ensureDeferred
async def test_the_file_is_the_groups_whatever_the_umask(make, path, directory):
    os.chmod(directory, 0o2770)
    os.chown(directory, -1, 65534)
    before = os.umask(0o077)
    try:
        await reserve(make(), 1)
    finally:
        os.umask(before)
    for name in (path, path.with_name("ledger.sqlite-wal"), path.with_name("ledger.sqlite-shm")):
        status = name.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, 65534)


@pytest_twisted.ensureDeferred
async def test_blocks_of_another_process_are_told_within_a_second(make, path, directory):
    heard: list[tuple[int, tuple[Block, ...]]] = []
    store = make()
    store.watch(lambda generation, blocks: heard.append((generation, blocks)))
    await until(lambda: heard)
    assert heard[0][1] == ()
    with open_book(path) as book:
        kept = book.block(BLOCK)
    began = reactor.seconds()
    await until(lambda: len(heard) > 1)
    assert reactor.seconds() - began < 1
    assert heard[-1][1] == (kept,)
    with open_book(path) as book:
        book.lift(kept.id, "root", "paid")
    await until(lambda: heard[-1][1] == ())
    assert [generation for generation, _ in heard] == sorted({generation for generation, _ in heard})


@pytest_twisted.ensureDeferred
async def test_own_changes_are_told_too_and_charges_are_not(make, directory):
    heard = []
    store = make()
    store.watch(lambda generation, blocks: heard.append(generation))
    await until(lambda: heard)
    await reserve(store, 1)
    await store.settle(charge(1), Amounts(1, 1, 0))
    await deferLater(reactor, 0.6, lambda: None)
    assert len(heard) == 1
    await store.refund("mx1", "Q1", "login:alice")
    await until(lambda: len(heard) == 2)


@pytest_twisted.ensureDeferred
async def test_who_watches_late_is_told_what_is_known(make, directory):
    store = make()
    await store.block(BLOCK)
    await until(lambda: store._news is not None)
    heard = []
    store.watch(lambda generation, blocks: heard.append(blocks))
    assert len(heard[0]) == 1


@pytest_twisted.ensureDeferred
async def test_a_lapse_is_told_without_any_request(make, directory, monkeypatch):
    monkeypatch.setattr(ledger.clerk, "TIDY", 0.1)
    clock = TestClock()
    store = make(clock)
    heard = []
    store.watch(lambda generation, blocks: heard.append(generation))
    await reserve(store, 1)
    told = len(heard)
    clock.advance(3600)
    await until(lambda: len(heard) > told)
    assert await used(store) == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("jump", [-86400, 86400, -30, 30])
async def test_a_clock_that_jumps_while_running_unblocks_and_blocks_nobody(make, directory, jump):
    clock = TestClock()
    store = make(clock)
    await reserve(store, 1, 1000)
    await store.settle(charge(1), Amounts(1, 1000, 0))
    clock.jump(jump)
    refused = await reserve(store, 2, 1)
    assert isinstance(refused, Refused)
    assert 3600 <= refused.reopens_at - clock.now <= 3660
    clock.advance(3660)
    assert isinstance(await reserve(store, 2, 1), Admitted)


@pytest_twisted.ensureDeferred
async def test_all_processes_of_a_host_agree_on_the_time_after_a_jump(make, path, directory):
    clock, other = TestClock(), TestClock()
    store = make(clock)
    await reserve(store, 1, 400)
    clock.jump(86400)
    other.now, other.adopt = clock.now, False
    assert await used(make(other)) == 400
    other.adopt = True
    started = make(other)
    await until(lambda: started.state() == "ok")
    assert await used(started) == 0, "a sidecar that starts takes the wall clock"
    assert await used(store) == 0, "and the others follow it"


@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_slewed_is_followed(make, directory):
    clock = TestClock()
    store = make(clock)
    await reserve(store, 1, 1)
    for _ in range(10):
        clock.jump(4)
        await used(store)
    refused = await reserve(store, 2, 1000)
    assert refused.reopens_at - clock.now <= 3660 - 40
    clock.advance(1)


@pytest_twisted.ensureDeferred
async def test_a_host_that_was_started_again_takes_the_wall_clock(make, directory):
    clock, later = TestClock(), TestClock()
    await reserve(make(clock), 1, 5)
    later.booted, later.adopt = "another boot", False
    later.now, later.ticks = clock.now + 600, 3.0
    store = make(later)
    assert await used(store) == 5
    assert (await reserve(store, 2, 1000)).reopens_at <= clock.now + 3660


def test_the_deferreds_of_a_stopped_reactor_are_nobodys_trouble(path, directory, log):
    """callFromThread may come to nothing when the reactor is gone; the thread ends all the same."""

    class Deaf:
        def callFromThread(self, *_):
            pass

    store = SqliteLedger(path, reactor=Deaf(), log=log)
    store.start()
    assert isinstance(reserve(store, 1), Deferred)
    store.stop()
    store._thread.join(5)
    assert not store._thread.is_alive()
