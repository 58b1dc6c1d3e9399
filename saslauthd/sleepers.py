"""Refusals that are put off, on the reactor's timers.

Knows how many may wait at a time, and that they are told at once when the process ends. Must not know for how
long a refusal is put off, nor why.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

MOST = 5000  # refusals that are put off at a time; more are told at once


class Sleepers:
    """All that wait."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: set[Deferred[None]] = set()

    async def sleep(self, seconds: float) -> bool:
        """Wait; False when too many do."""
        if len(self._waiting) >= MOST:
            return False
        waiting: Deferred[None] = Deferred()
        call = self._reactor.callLater(seconds, waiting.callback, None)
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
            if call.active():
                call.cancel()
        return True

    def wake(self) -> None:
        """Wait no more."""
        for waiting in tuple(self._waiting):
            if not waiting.called:
                waiting.callback(None)
