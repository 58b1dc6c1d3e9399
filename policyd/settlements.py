"""What the ledger must still be told after the answer went out: late settlements, reservations to give back.

Knows patience: it repeats, slower and slower, and holds a bounded number. Must not know verdicts or the wire.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from ledger.charges import Amounts, ChargeId, Ledger, Refused, Unavailable
from policyd.deadline import within
from policyd.facts import AWAY, Away

MOST = 10_000  # settlements that wait; what comes after them displaces the oldest, loudly
PATIENCE = 5.0  # seconds for one attempt
LAST_PATIENCE = 2.0  # seconds for what still waits when the process ends
FIRST_PAUSE, LAST_PAUSE = 0.25, 10.0  # seconds between attempts

T = TypeVar("T")


async def ask(awaitable: Awaitable[T]) -> T | Away:
    """The ledger's answer, AWAY when it has none or the deadline has cancelled the question."""
    try:
        return await awaitable
    except (Unavailable, CancelledError):
        return AWAY


class Settlements:
    """Delivers what waits in the order it came. `ledger` may be exchanged at any time."""

    def __init__(self, ledger: Ledger, *, reactor: Any, log: Any) -> None:
        self.ledger = ledger
        self._reactor = reactor
        self._log = log
        self._waiting: OrderedDict[ChargeId, Amounts] = OrderedDict()
        self._pause = FIRST_PAUSE
        self._timer: Any = None
        self._busy = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, charge: ChargeId) -> bool:
        return charge in self._waiting

    def add(self, charge: ChargeId, amounts: Amounts) -> None:
        """Settle `charge` as soon as the ledger takes it."""
        self._waiting[charge] = amounts
        if len(self._waiting) > MOST:
            self._lose(self._waiting.popitem(last=False)[0])
        self._later()

    def release(self, charge: ChargeId, done: Callable[[bool], None]) -> None:
        """Give a reservation back; `done` hears whether there was one. Untold, it lapses by itself."""

        async def release() -> None:
            done(await ask(self.ledger.release(charge)) is True)

        self._in_time(release())

    def flush(self) -> Deferred[None]:
        """Try at once to deliver everything; fires when that has ended, one way or the other."""
        return within(self._reactor, LAST_PATIENCE, self._deliver())

    def stop(self) -> None:
        """Let go of the timer; what still waits is lost, loudly."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for charge in self._waiting:
            self._lose(charge)
        self._waiting.clear()

    def _lose(self, charge: ChargeId) -> None:
        self._log.error("settle", settle="lost", instance=charge.instance, queue_id=charge.queue_id)

    def _later(self) -> None:
        if self._waiting and self._timer is None and not self._busy:
            self._timer = self._reactor.callLater(self._pause, self._run)
            self._pause = min(2 * self._pause, LAST_PAUSE)

    def _run(self) -> None:
        self._timer, self._busy = None, True
        self._in_time(self._deliver()).addCallback(self._ended)

    def _ended(self, _: None) -> None:
        self._busy = False
        self._later()

    async def _deliver(self) -> None:
        while self._waiting:
            charge, amounts = next(iter(self._waiting.items()))
            outcome = await ask(self.ledger.settle(charge, amounts))
            if outcome is AWAY:
                return
            self._pause = FIRST_PAUSE
            if self._waiting.pop(charge, None) is not None:
                refused = "refused" if isinstance(outcome, Refused) else None
                said = {"instance": charge.instance, "queue_id": charge.queue_id, "outcome": refused}
                self._log.info("settle", settle="late", **said)

    def _in_time(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        return within(self._reactor, PATIENCE, coroutine)
