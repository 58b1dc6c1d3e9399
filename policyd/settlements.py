"""What the ledger must still be told after the answer went out: late settlements, reservations to give back.

Knows patience: it repeats, slower and slower until the ledger is heard of again, and holds a bounded number.
Must not know verdicts or the wire.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from ledger.charges import Admitted, Amounts, ChargeId, Ledger, Refused, Unavailable
from policyd.deadline import Deadline
from policyd.facts import AWAY, Away

MOST = 10_000  # charges that wait; what comes after them displaces the oldest, a settlement loudly
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
        self._waiting: OrderedDict[ChargeId, Amounts | None] = OrderedDict()  # None: to be given back
        self._patience = Deadline(reactor, PATIENCE)
        self._pause = FIRST_PAUSE
        self._timer: Any = None
        self._busy = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, charge: ChargeId) -> bool:
        return charge in self._waiting

    def add(self, charge: ChargeId, amounts: Amounts) -> None:
        """Settle `charge` as soon as the ledger takes it."""
        self._wait(charge, amounts)

    def give_back(self, charge: ChargeId) -> None:
        """Release `charge` as soon as the ledger can be asked: its message was deferred."""
        self._wait(charge, None)

    def withdraw(self, charge: ChargeId) -> None:
        """The same message is asked about again: nothing of it is given back any more."""
        if self._waiting.get(charge, self) is None:
            del self._waiting[charge]

    def release(self, charge: ChargeId, done: Callable[[bool], None]) -> None:
        """Give an abandoned reservation back; `done` hears whether there was one."""

        async def release() -> None:
            outcome = await ask(self.ledger.release(charge))
            if outcome is AWAY:
                self.give_back(charge)
            done(outcome is True)

        self._patience.within(release())

    def hurry(self) -> None:
        """The ledger was heard of: what waits need not wait any longer."""
        self._pause = FIRST_PAUSE
        if self._timer is not None:
            self._timer.cancel()
            self._run()

    def flush(self) -> Deferred[None]:
        """Try at once to deliver everything; fires when that has ended, one way or the other."""
        return Deadline(self._reactor, LAST_PATIENCE).within(self._deliver())

    def stop(self) -> None:
        """Let go of the timer; settlements that still wait are lost, loudly."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._lose_oldest()

    def _wait(self, charge: ChargeId, amounts: Amounts | None) -> None:
        self._waiting[charge] = amounts
        if len(self._waiting) > MOST:
            self._lose_oldest()
        self._later()

    def _lose_oldest(self) -> None:
        charge, amounts = self._waiting.popitem(last=False)
        if amounts is not None:  # a reservation lapses by itself
            self._log.error("settle", settle="lost", instance=charge.instance, queue_id=charge.queue_id)

    def _later(self) -> None:
        if self._waiting and self._timer is None and not self._busy:
            self._timer = self._reactor.callLater(self._pause, self._run)
            self._pause = min(2 * self._pause, LAST_PAUSE)

    def _run(self) -> None:
        self._timer, self._busy = None, True
        self._patience.within(self._deliver()).addCallback(self._ended)

    def _ended(self, _: None) -> None:
        self._busy = False
        self._later()

    async def _deliver(self) -> None:
        while self._waiting:
            charge, amounts = next(iter(self._waiting.items()))
            outcome: Admitted | Refused | bool | Away
            if amounts is None:
                outcome = await ask(self.ledger.release(charge))
            else:
                outcome = await ask(self.ledger.settle(charge, amounts))
            if outcome is AWAY:
                return
            self._pause = FIRST_PAUSE
            if self._waiting.pop(charge, self) is not self and outcome is not False:
                self._say(charge, outcome)

    def _say(self, charge: ChargeId, outcome: Admitted | Refused | bool | Away) -> None:
        said = {"instance": charge.instance, "queue_id": charge.queue_id}
        if outcome is True:
            self._log.info("settle", settle="given_back", **said)
        else:
            refused = "refused" if isinstance(outcome, Refused) else None
            self._log.info("settle", settle="late", **said, outcome=refused)
