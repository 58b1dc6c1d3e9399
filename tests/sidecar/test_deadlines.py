"""One timer for deadlines that are all equally long."""

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import Clock

from sidecar.deadlines import Deadlines


def watched(deadlines):
    """Something that is waited for, and what came of it."""
    waiting, heard = Deferred(), []
    deadlines.watch(waiting)
    waiting.addBoth(lambda result: heard.append(getattr(result, "type", result)))
    return waiting, heard


def test_each_ends_at_its_own_time_and_says_that_it_was_late():
    clock = Clock()
    deadlines = Deadlines(clock, 7.0)
    _, first = watched(deadlines)
    clock.advance(3)
    _, second = watched(deadlines)
    clock.advance(3.9)
    assert first == []
    clock.advance(0.1)
    assert (first, second) == ([TimeoutError], [])
    clock.advance(3)
    assert second == [TimeoutError]
    assert clock.getDelayedCalls() == []


def test_what_has_ended_or_was_given_up_is_left_alone():
    clock = Clock()
    deadlines = Deadlines(clock, 7.0)
    (answered, one), (given_up, other) = watched(deadlines), watched(deadlines)
    answered.callback("yes")
    given_up.cancel()
    clock.advance(7)
    assert (one, other) == (["yes"], [CancelledError])
    assert clock.getDelayedCalls() == []


def test_many_cost_one_timer_and_nothing_is_kept_of_those_that_ended():
    clock = Clock()
    deadlines = Deadlines(clock, 7.0)
    for _ in range(1000):
        watched(deadlines)[0].callback("yes")
    assert len(clock.getDelayedCalls()) == 1
    assert len(deadlines._waiting) <= 1


def test_what_cancels_without_ending_is_cancelled_once_and_forgotten():
    clock, cancelled = Clock(), []
    deadlines = Deadlines(clock, 7.0)
    stubborn = Deferred(cancelled.append)
    stubborn.addErrback(lambda failure: None)
    deadlines.watch(stubborn)
    clock.advance(7)
    clock.advance(70)
    assert len(cancelled) == 1
