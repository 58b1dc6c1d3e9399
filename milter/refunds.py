"""Refunds: what a refused message has cost goes back to whoever paid.

Knows patience: a refusal waits a second for the refund at most, and a refund that did not arrive is tried
again for a while. Must not know verdicts or the wire. A refund is idempotent, so trying again cannot give
too much.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal

from twisted.internet.defer import CancelledError, Deferred, TimeoutError

from ledger.charges import Ledger, Unavailable

WAIT = 1.0  # seconds that a refusal waits
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before each further attempt
PATIENCE = 5.0  # seconds for one of them
MOST = 1000  # refunds that are tried again at one time

Refund = Literal["done", "none", "lost"]


class Refunds:
    """Gives back, once at once and then in the background. `ledger` may be exchanged at any time."""

    def __init__(self, ledger: Ledger, *, reactor: Any, log: Any) -> None:
        self.ledger = ledger
        self._reactor = reactor
        self._log = log
        self._waiting: dict[tuple[str, str, str], Any] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def give_back(self, mta: str, queue_id: str, subject: str) -> Refund:
        """Within a second: done, none (nothing was charged), or lost (and tried again later)."""
        refund = await self._attempt(WAIT, mta, queue_id, subject)
        if refund == "lost":
            self.later(mta, queue_id, subject)
        return refund

    def later(self, mta: str, queue_id: str, subject: str) -> None:
        """Try in the background; over the bound it stays lost."""
        key = (mta, queue_id, subject)
        if key not in self._waiting and len(self._waiting) < MOST:
            self._again(key, 0)

    def stop(self) -> None:
        """Let go of the timers."""
        for timer in self._waiting.values():
            if timer is not None and timer.active():
                timer.cancel()
        self._waiting.clear()

    async def _attempt(self, seconds: float, mta: str, queue_id: str, subject: str) -> Refund:
        asked = Deferred.fromCoroutine(_ask(self.ledger.refund(mta, queue_id, subject)))
        if not asked.called:
            asked.addTimeout(seconds, self._reactor)
        try:
            return "done" if await asked else "none"
        except (Unavailable, TimeoutError, CancelledError):
            return "lost"

    def _again(self, key: tuple[str, str, str], attempt: int) -> None:
        if attempt == len(PAUSES):
            self._waiting.pop(key, None)
            self._log.error("refund", refund="lost", queue_id=key[1], principal=key[2], text="given up")
            return
        self._waiting[key] = self._reactor.callLater(PAUSES[attempt], self._run, key, attempt)

    def _run(self, key: tuple[str, str, str], attempt: int) -> None:
        Deferred.fromCoroutine(self._once_more(key, attempt))

    async def _once_more(self, key: tuple[str, str, str], attempt: int) -> None:
        refund = await self._attempt(PATIENCE, *key)
        if key not in self._waiting:  # stopped meanwhile
            return
        if refund == "lost":
            self._again(key, attempt + 1)
            return
        del self._waiting[key]
        self._log.notice("refund", refund="late", queue_id=key[1], principal=key[2], outcome=refund)


async def _ask(awaitable: Awaitable[bool]) -> bool:
    return await awaitable
