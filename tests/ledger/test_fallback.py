"""Coming together again after Redis was away, step by step, several sidecars on one file."""

import json
import sqlite3
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed

from ledger.book import Book
from ledger.charges import Admitted, Amounts, ChargeId, Submission, Unavailable
from ledger.clock import Time
from ledger.fallback import STANDINGS, Fallback
from ledger.limits import Standing, parse_limit
from ledger.schema import prepare

NOW = 1.8e9
LIMIT = parse_limit("100 recipients per hour")
HELD = (("login:alice", LIMIT, True),)
CHARGE = ChargeId("mx1.example.org", "i.1", "4XYZ")
SIZE = Amounts(1, 10, 100)
SILENT = SimpleNamespace(warning=lambda *_, **__: None, notice=lambda *_, **__: None)


class Local:
    """The file, each verb a transaction that is done at once."""

    def __init__(self):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        prepare(connection)
        self.book = Book(connection, lambda: "x")

    def __getattr__(self, name):
        return lambda *a, **k: succeed(self._do(getattr(self.book, name), *a, **k))

    def guard_names(self, key):
        return succeed(self._do(self.book.marks.names, key))

    def guard_note(self, marks):
        return succeed(self._do(self.book.marks.note, marks))

    def guard_drop(self, pairs):
        return succeed(self._do(self.book.marks.drop, pairs))

    def _do(self, verb, *arguments, **named):
        self.book.begin(lambda booted, shift: Time(NOW, 0.0, booted, shift))
        answer = verb(*arguments, **named)
        self.book.commit()
        return answer


class Redis:
    """What Redis is told, one word a verb; `before` is done while it is being told. It says 10 used."""

    def __init__(self):
        self.told = []
        self.before = {}

    def hand(self, verb, read):
        self.told.append(verb[0].decode())
        self.before.pop(self.told[-1], lambda: None)()
        answer = b"A 10 -"
        if verb[0] == b"settle":
            answer = [answer, b"100 recipients 3600 1 login:alice\n"]
        return succeed(read(answer, SimpleNamespace(read=lambda moment: None)))


def now(coroutine):
    heard = []
    ensureDeferred(coroutine).addBoth(lambda result: heard.append(getattr(result, "value", result)))
    assert heard
    return heard[0]


@pytest.fixture
def local():
    return Local()


@pytest.fixture
def redis():
    return Redis()


@pytest.fixture
def policyd(local, redis):
    made = Fallback(local, redis.hand, SILENT)
    assert now(made.reserve(CHARGE, Submission("login:alice", "alice@example.org"), SIZE, HELD, False))
    return made


@pytest.fixture
def milter(local, redis):
    """Another process on the same file."""
    return Fallback(local, redis.hand, SILENT)


def test_what_policyd_settles_while_the_milter_tells_redis_is_settled_there_too(
    policyd, milter, local, redis
):
    settled = []
    redis.before["reserve"] = lambda: settled.append(now(policyd.settle(CHARGE, SIZE)))
    now(milter.rejoined())
    assert isinstance(settled[0], Admitted)
    assert redis.told == ["reserve", "reserve", "settle"]
    assert local.outstanding(9).result == []


def test_what_the_milter_refunds_while_policyd_tells_redis_is_refunded_there_too(policyd, local, redis):
    now(policyd.settle(CHARGE, SIZE))
    redis.before["settle"] = lambda: local.refund("mx1.example.org", "4XYZ", "login:alice")
    now(policyd.rejoined())
    assert redis.told == ["reserve", "settle", "refund"]


@pytest.mark.parametrize("verb", ["settle", "release"])
def test_what_another_sidecar_has_added_is_for_redis_alone(policyd, milter, redis, verb):
    now(milter.rejoined())
    arguments = (CHARGE, SIZE) if verb == "settle" else (CHARGE,)
    assert isinstance(now(getattr(policyd, verb)(*arguments)), Unavailable)
    assert not policyd.counts(CHARGE)


def test_what_was_added_is_held_against_the_limit_when_redis_goes_away_again(policyd, redis):
    now(policyd.settle(CHARGE, SIZE))
    now(policyd.rejoined())
    (standing,) = now(policyd.standing((("login:alice", LIMIT),)))
    assert (standing.used, standing.limit) == (10, LIMIT)


def test_what_redis_said_is_held_by_the_process_that_comes_after(policyd, milter, local):
    now(policyd.rejoined())
    now(policyd.keep())
    (standing,) = now(milter.standing((("login:alice", LIMIT),)))
    assert standing.used == 10
    now(milter.keep())
    assert local.guard_names(STANDINGS).result == (json.dumps(["login:alice", "recipients", 3600, 10]),)


def test_who_has_heard_nothing_leaves_what_others_have_kept(policyd, milter, local):
    now(policyd.rejoined())
    now(policyd.keep())
    kept = local.guard_names(STANDINGS).result
    now(milter.keep())
    assert local.guard_names(STANDINGS).result == kept


def test_a_file_that_takes_nothing_at_once_is_no_bug(local, redis):
    """Its queue is full, or it is stopped: adding ends before anybody waits for it."""
    local.outstanding = lambda most: fail(Unavailable("too many requests wait"))
    made = Fallback(local, redis.hand, SILENT)
    assert now(made.rejoined()) is None


def test_who_comes_while_it_is_being_added_waits_for_that(local, redis):
    slow, asked = Deferred(), []
    local.outstanding = lambda most: asked.append(most) or slow
    made = Fallback(local, redis.hand, SILENT)
    waiting = [ensureDeferred(made.rejoined()) for _ in range(2)]
    assert len(asked) == 1
    slow.callback([])
    assert all(one.called for one in waiting)


def test_a_file_that_is_away_too_keeps_nothing_and_disturbs_nobody(policyd, milter, local):
    """Redis and the file are away at once, or it stops then; of a process that has asked neither before."""
    now(milter.rejoined())
    local.guard_names = lambda key: fail(Unavailable("the file is away"))
    assert now(milter.keep()) is None


def test_who_wants_it_kept_meanwhile_waits_for_what_is_being_written():
    """The ledger stops then: what is not in the file when its turn comes would be lost."""
    local, redis, dropped = Local(), Redis(), Deferred()
    fallback = Fallback(local, redis.hand, SILENT)
    fallback.learn(Admitted((Standing("login:alice", LIMIT, 60),)))
    drop, local.guard_drop = local.guard_drop, lambda pairs: dropped
    first, second = ensureDeferred(fallback.keep()), ensureDeferred(fallback.keep())
    assert not second.called
    local.guard_drop = drop
    fallback.learn(Admitted((Standing("login:alice", LIMIT, 70),)))  # another answer came in between
    dropped.callback(None)
    assert first.called
    assert second.called
    (kept,) = now(local.guard_names(STANDINGS))
    assert json.loads(kept)[-1] == 70
