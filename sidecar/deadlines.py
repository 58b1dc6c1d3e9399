"""Deadlines that are all equally long: what began first is due first, so that one timer serves them all.

Knows what is waited for and since when. Must not know what it is, nor what its end means.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.python.failure import Failure


class _Watched:
    """One that is waited for; `awaited` is None once it has ended."""

    __slots__ = ("awaited", "due", "is_late")

    def __init__(self, awaited: Deferred[Any], due: float) -> None:
        self.awaited: Deferred[Any] | None = awaited
        self.due = due
        self.is_late = False

    def end(self, result: Any) -> Any:
        self.awaited = None
        if self.is_late and isinstance(result, Failure) and isinstance(result.value, CancelledError):
            raise TimeoutError
        return result


class Deadlines:
    """Cancels what takes longer than `seconds`."""

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._waiting: deque[_Watched] = deque()
        self._timer: Any = None

    def watch(self, awaited: Deferred[Any]) -> None:
        """Cancel it after `seconds` unless it has ended; it fails with TimeoutError then."""
        while self._waiting and self._waiting[0].awaited is None:
            self._waiting.popleft()
        if awaited.called:
            return
        watched = _Watched(awaited, self._reactor.seconds() + self._seconds)
        awaited.addBoth(watched.end)
        self._waiting.append(watched)
        if self._timer is None:
            self._timer = self._reactor.callLater(self._seconds, self._look)

    def _look(self) -> None:
        self._timer, now = None, self._reactor.seconds()
        while self._waiting and (self._waiting[0].awaited is None or self._waiting[0].due <= now):
            watched = self._waiting.popleft()
            if watched.awaited is not None:
                watched.is_late = True
                watched.awaited.cancel()
        if self._waiting:
            self._timer = self._reactor.callLater(self._waiting[0].due - now, self._look)
