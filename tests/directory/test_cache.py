"""The cache before a directory that answers later, with a slow directory of our own and a clock."""

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from directory.cache import CachedDirectory, CacheSettings
from directory.identity import (
    Certificate,
    Credentials,
    Denied,
    Login,
    Mistaken,
    Network,
    Principal,
    Unavailable,
)

ALICE = Principal("login", "alice")
QUESTION = Login("alice")


class SlowDirectory:
    """Answers each question when the test says so."""

    def __init__(self):
        self.asked = []
        self.running = False

    def look_up(self, question):
        answer = Deferred()
        self.asked.append((question, answer))
        return answer

    def answer(self, result):
        self.asked.pop(0)[1].callback(result)

    def fail(self):
        self.asked.pop(0)[1].errback(Unavailable("away"))

    def verify(self, credentials):
        return succeed(Denied("wrong_password"))

    def principals(self):
        return succeed((ALICE,))

    def start(self):
        self.running = True

    def stop(self):
        self.running = False

    def state(self):
        return "ok"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slow():
    return SlowDirectory()


@pytest.fixture
def cache(slow, clock):
    return CachedDirectory(slow, CacheSettings(ttl=60, negative_ttl=10, stale=600, entries=3), reactor=clock)


def outcome(waiting):
    results = []
    waiting.addBoth(results.append)
    return results


def test_answer_is_remembered_for_its_ttl_and_comes_at_once(cache, slow, clock):
    first = outcome(cache.look_up(QUESTION))
    assert first == []
    slow.answer(ALICE)
    assert first == [ALICE]
    clock.advance(59)
    assert cache.look_up(QUESTION) is ALICE
    clock.advance(1)
    again = outcome(cache.look_up(QUESTION))
    slow.answer(None)
    assert again == [None]


def test_nobody_is_remembered_for_the_negative_ttl(cache, slow, clock):
    outcome(cache.look_up(QUESTION))
    slow.answer(None)
    clock.advance(9)
    assert cache.look_up(QUESTION) is None
    clock.advance(1)
    outcome(cache.look_up(QUESTION))
    assert len(slow.asked) == 1


def test_equal_questions_in_flight_are_asked_once(cache, slow):
    waiting = [outcome(cache.look_up(QUESTION)) for _ in range(5)]
    assert len(slow.asked) == 1
    slow.answer(ALICE)
    assert waiting == [[ALICE]] * 5


def test_one_who_gives_up_leaves_the_others_waiting(cache, slow):
    given_up = cache.look_up(QUESTION)
    failures = outcome(given_up)
    other = outcome(cache.look_up(QUESTION))
    given_up.cancel()
    slow.answer(ALICE)
    assert other == [ALICE]
    assert len(failures) == 1


def test_old_answer_serves_while_the_directory_is_away_and_no_longer_than_stated(cache, slow, clock):
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    clock.advance(60 + 599)
    bridged = outcome(cache.look_up(QUESTION))
    slow.fail()
    assert bridged == [ALICE]
    assert cache.state() == "stale"
    clock.advance(1)
    refused = outcome(cache.look_up(QUESTION))
    slow.fail()
    assert refused[0].check(Unavailable)


def test_nobody_with_an_old_answer_waits_for_a_directory_that_is_known_to_be_away(slow, clock):
    away = []
    settings = CacheSettings(ttl=60, stale=600)
    cache = CachedDirectory(slow, settings, reactor=clock, is_away=lambda: bool(away))
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    clock.advance(60)
    away.append(True)
    assert cache.look_up(QUESTION) is ALICE
    assert cache.look_up(QUESTION) is ALICE
    assert cache.state() == "stale"
    assert len(slow.asked) == 1  # behind
    slow.fail()
    assert cache.look_up(QUESTION) is ALICE
    slow.answer(other := Principal("login", "alice", domain="example.net"))
    assert cache.state() == "ok"
    assert cache.look_up(QUESTION) is other
    assert outcome(cache.look_up(Login("bob"))) == []


def test_old_answer_serves_before_a_slow_directory_has_answered(cache, slow, clock):
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    clock.advance(60)
    waiting = outcome(cache.look_up(QUESTION))
    clock.advance(1.9)
    assert waiting == []
    clock.advance(0.1)
    assert waiting == [ALICE]
    slow.answer(None)
    assert cache.look_up(QUESTION) is None


def test_what_the_directory_has_wrong_is_not_served_later_either(cache, slow, clock):
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    clock.advance(60)
    outcome(cache.look_up(QUESTION))
    slow.asked.pop(0)[1].errback(Mistaken("two entries"))
    refused = outcome(cache.look_up(QUESTION))
    clock.advance(3)
    assert refused == []
    slow.fail()
    assert refused[0].check(Unavailable)


def test_state_is_ok_again_when_the_directory_answers(cache, slow, clock):
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    clock.advance(60)
    outcome(cache.look_up(QUESTION))
    slow.fail()
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    assert cache.state() == "ok"
    assert cache.look_up(QUESTION) is ALICE


def test_nobody_is_not_bridged(cache, slow, clock):
    outcome(cache.look_up(QUESTION))
    slow.answer(None)
    clock.advance(10)
    refused = outcome(cache.look_up(QUESTION))
    slow.fail()
    assert refused[0].check(Unavailable)


def test_unavailable_is_never_remembered(cache, slow):
    for _ in range(2):
        refused = outcome(cache.look_up(QUESTION))
        slow.fail()
        assert refused[0].check(Unavailable)
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    assert cache.look_up(QUESTION) is ALICE


def test_fault_of_the_directory_reaches_everybody_and_is_not_bridged(cache, slow, clock):
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    clock.advance(60)
    faults = [outcome(cache.look_up(QUESTION)) for _ in range(2)]
    slow.asked.pop(0)[1].errback(KeyError("a fault"))
    assert [fault[0].check(KeyError) for fault in faults] == [KeyError, KeyError]


def test_longest_unused_answer_goes_first(cache, slow):
    for name in ("a", "b", "c"):
        outcome(cache.look_up(Login(name)))
        slow.answer(Principal("login", name))
    assert cache.look_up(Login("a")).name == "a"
    outcome(cache.look_up(Login("d")))
    slow.answer(ALICE)
    assert cache.look_up(Login("a")).name == "a"
    outcome(cache.look_up(Login("b")))
    assert len(slow.asked) == 1


def test_strangers_push_nobody_out(cache, slow):
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    for number in range(20):
        outcome(cache.look_up(Network(f"192.0.2.{number}")))
        slow.answer(None)
    assert cache.look_up(QUESTION) is ALICE
    assert cache.look_up(Network("192.0.2.19")) is None
    outcome(cache.look_up(Network("192.0.2.1")))
    assert len(slow.asked) == 1


def test_flushed_login_is_asked_anew(cache, slow):
    for question in (QUESTION, Certificate(("sha256:" + "ab" * 32,))):
        outcome(cache.look_up(question))
        slow.answer(ALICE)
    assert cache.flush("bob") == 0
    assert cache.flush("alice") == 1
    outcome(cache.look_up(QUESTION))
    assert len(slow.asked) == 1
    assert cache.flush() == 1


def test_answer_under_way_during_a_flush_is_neither_kept_nor_given_to_who_asks_later(cache, slow):
    waiting = outcome(cache.look_up(QUESTION))
    cache.flush("alice")
    later = outcome(cache.look_up(QUESTION))
    slow.answer(None)
    assert (waiting, later) == ([None], [])
    slow.answer(ALICE)
    assert later == [ALICE]
    assert cache.look_up(QUESTION) is ALICE


def test_an_answer_that_is_doubted_is_asked_for_anew_and_still_bridges_an_outage(cache, slow):
    outcome(cache.look_up(QUESTION))
    slow.answer(ALICE)
    cache.doubt("alice")
    during = outcome(cache.look_up(QUESTION))
    slow.fail()
    assert during == [ALICE]
    assert cache.state() == "stale"
    after = outcome(cache.look_up(QUESTION))
    slow.answer(None)
    assert after == [None]
    cache.doubt("nobody")


def test_directory_that_answers_at_once_is_served_too(slow, clock):
    slow.look_up = lambda question: ALICE
    cache = CachedDirectory(slow, CacheSettings(), reactor=clock)
    assert outcome(cache.look_up(QUESTION)) == [ALICE]
    assert cache.look_up(QUESTION) is ALICE


def test_the_rest_goes_to_the_directory(cache, slow):
    cache.start()
    assert slow.running
    assert cache.state() == "ok"
    assert outcome(cache.verify(Credentials("alice", b"x"))) == [Denied("wrong_password")]
    assert outcome(cache.principals()) == [(ALICE,)]
    cache.stop()
    assert not slow.running


def test_cache_without_room_is_refused():
    with pytest.raises(ValueError, match="1 or more"):
        CacheSettings(entries=0)
