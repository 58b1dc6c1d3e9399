"""Deadlines: an answer within so many seconds, whatever a store does.

Knows how to cancel what is awaited. Must not know what is awaited or what a cancelled one becomes.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")

AGAIN = 0.5  # seconds from cancelling one question to cancelling the one that is asked in its place


class Deadline:
    """So many seconds for each of many questions; one timer for all of them, since most need none."""

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._waiting: dict[Deferred[Any], float] = {}  # each with the moment at which it is cancelled
        self._timer: Any = None

    def within(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """Run `coroutine`; when its time is over cancel what it awaits, again and again until it ends."""
        done = Deferred.fromCoroutine(coroutine)
        if not done.called:
            self._waiting[done] = self._reactor.seconds() + self._seconds
            self._look_after(self._seconds)
            done.addBoth(self._ended, done)
        return done

    def _ended(self, result: T, done: Deferred[T]) -> T:
        del self._waiting[done]
        return result

    def _look_after(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer, now = None, self._reactor.seconds()
        for done, at in list(self._waiting.items()):
            if at <= now and done in self._waiting:
                self._waiting[done] = now + AGAIN
                done.cancel()
        if self._waiting:
            self._look_after(max(0.0, min(self._waiting.values()) - now))


def within(reactor: Any, seconds: float, coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """`Deadline.within` for a question that is seldom asked."""
    return Deadline(reactor, seconds).within(coroutine)
