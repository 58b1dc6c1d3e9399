"""What a predecessor left: charges for messages that no milter has taken up before this one started.

Knows when this process started, and patience. Must not know messages or the wire. A milter that starts has
none of its predecessor's connections, and the MTA answers 451 for every message on them: the client sends it
again, and pays again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError

from ledger.charges import Ledger, Unavailable

PAUSE = 1.0  # seconds between two attempts
PATIENCE = 5.0  # seconds for one of them
LONGEST = 600.0  # seconds after the start; then it stays charged


class Legacy:
    """Gives it back, once, in the background. `ledger` gives the ledger that is in use."""

    def __init__(self, ledger: Callable[[], Ledger], *, reactor: Any, log: Any) -> None:
        self._ledger = ledger
        self._reactor = reactor
        self._log = log
        self._started = 0.0
        self._stopped = False
        self._timers: dict[str, Any] = {}

    def give_back(self, mtas: Iterable[str]) -> None:
        """Begin, for these MTAs. To be called at the start, before a connection is accepted: what is reserved
        from now on may be for a message that we shall see."""
        self._started = self._reactor.seconds()
        for mta in sorted(mtas):
            self._run(mta)

    def stop(self) -> None:
        """Let go of the timers."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _run(self, mta: str) -> None:
        self._timers.pop(mta, None)
        Deferred.fromCoroutine(self._attempt(mta))

    async def _attempt(self, mta: str) -> None:
        """Until none is left: the ledger may give back some at a time."""
        count = 0
        try:
            while more := await self._ask(mta):
                count += more
        except (Unavailable, TimeoutError, CancelledError) as trouble:
            self._again(mta, trouble)
        if count:
            self._log.notice("refund_untaken", count=count, mta=mta)

    def _ask(self, mta: str) -> Deferred[int]:
        age = self._reactor.seconds() - self._started
        asked = Deferred.fromCoroutine(_ask(self._ledger().refund_untaken(mta, age)))
        return asked if asked.called else asked.addTimeout(PATIENCE, self._reactor)

    def _again(self, mta: str, trouble: Exception) -> None:
        if self._stopped:
            return
        if self._reactor.seconds() - self._started < LONGEST:
            self._timers[mta] = self._reactor.callLater(PAUSE, self._run, mta)
            return
        text = "given up: messages that were in hand when the last milter ended stay charged"
        self._log.error("refund_untaken", mta=mta, text=text, reason=str(trouble))


async def _ask(awaitable: Awaitable[int]) -> int:
    return await awaitable
