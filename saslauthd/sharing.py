"""One question for all who ask the same at the same time.

Knows who waits for which answer, and that a question which nobody waits for any more is dropped. Must not
know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred

T = TypeVar("T")


class Sharing(Generic[T]):
    """Questions under way, by key."""

    def __init__(self) -> None:
        self._running: dict[bytes, tuple[Deferred[Any], list[Deferred[T]]]] = {}

    def ask(self, key: bytes, begin: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """The answer of the question under way with this key; else `begin()` is run for it."""
        waiting: Deferred[T] = Deferred(lambda one: self._leave(key, one))
        if key in self._running:
            self._running[key][1].append(waiting)
            return waiting
        waiters = [waiting]
        asked: Deferred[Any] = Deferred()
        self._running[key] = (asked, waiters)
        running = ensureDeferred(begin())
        if self._running.get(key, (None,))[0] is asked:
            self._running[key] = (running, waiters)
        running.addBoth(self._tell, key, waiters)
        return waiting

    def _tell(self, result: Any, key: bytes, waiters: list[Deferred[T]]) -> None:
        if self._running.get(key, (None, None))[1] is waiters:
            del self._running[key]
        for one in tuple(waiters):
            if not one.called:
                one.callback(result)  # a Failure becomes an errback

    def _leave(self, key: bytes, one: Deferred[T]) -> None:
        running, waiters = self._running.get(key, (None, []))
        if one not in waiters:
            return
        waiters.remove(one)
        if not waiters and running is not None:
            del self._running[key]
            running.cancel()
