"""Deadlines: an answer within so many seconds, whatever a store does.

Knows how to cancel what is awaited. Must not know what is awaited or what a cancelled one becomes.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")

AGAIN = 0.5  # seconds from cancelling one question to cancelling the one that is asked in its place


def within(reactor: Any, seconds: float, coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Run `coroutine`; after `seconds` cancel what it awaits, again and again until it has ended."""
    done = Deferred.fromCoroutine(coroutine)
    if done.called:
        return done

    def too_late() -> None:
        timers[0] = reactor.callLater(AGAIN, too_late)
        done.cancel()

    def disarm(result: T) -> T:
        timers[0].cancel()
        return result

    timers = [reactor.callLater(seconds, too_late)]
    done.addBoth(disarm)
    return done
