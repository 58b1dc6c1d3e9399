"""The reference ledger: every verb, in memory, as plainly as it can be said.

Knows what the verbs of `ledger.charges` mean; every store is compared with it, and tests of other packages
use it. Must not know a database, a thread or what time it is: the clock is handed in.

Charges and their lives stand here, what was taken for them in `ledger.counters`, what AUTH keeps in
`ledger.model_auth`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ledger.blocks import Block
from ledger.charges import (
    LAPSE,
    LAPSED_KEPT,
    RECORD_KEPT,
    UNTAKEN_WITHIN,
    Admitted,
    Amounts,
    ChargeId,
    Held,
    Refused,
    Submission,
    Unavailable,
)
from ledger.counters import Counters, Taking
from ledger.limits import Limit, Standing
from ledger.model_auth import AuthModel
from ledger.model_blocks import BlocksModel
from ledger.model_events import EventsModel

State = Literal["reserved", "settled", "refunded", "lapsed"]


@dataclass(slots=True)
class _Charge:
    state: State
    submission: Submission | None
    amounts: Amounts
    limits: tuple[Held, ...]
    due: float
    serial: int
    made: float
    takings: list[Taking] = field(default_factory=list)
    taken_up: bool = False

    def give_back(self) -> list[tuple[Taking, int]]:
        """Give all takings back; what they were, should it come to nothing."""
        returned = [(taking, taking.amount) for taking in self.takings]
        for taking in self.takings:
            taking.amount = 0
        return returned


class ModelLedger(AuthModel, BlocksModel, EventsModel):
    """A `Ledger` in memory. `clock` gives epoch seconds; `available` False makes every verb Unavailable."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.available = True
        self._clock = clock
        self._counters = Counters()
        self._charges: dict[ChargeId, _Charge] = {}
        self._generation = 0
        self._told = -1
        self._serial = 0
        self._watchers: list[Callable[[int, tuple[Block, ...]], None]] = []

    async def reserve(
        self,
        charge: ChargeId,
        submission: Submission | None,
        amounts: Amounts,
        limits: tuple[Held, ...],
        *,
        final: bool = False,
    ) -> Admitted | Refused:
        now, amounts = self._begin(), amounts.bounded()
        known = self._charges.get(charge)
        if known and known.state in ("reserved", "settled") and known.amounts == amounts:
            return Admitted(self._counters.standings(limits, now))
        returned = known.give_back() if known and known.state == "reserved" else []
        failing = self._counters.failing(limits, amounts, amounts, now)
        if failing:
            refused = self._counters.refused(failing, amounts, now)
            for taking, amount in returned:
                taking.amount = amount
            return refused
        self._serial += 1
        keep = None if final else submission
        due = now + (RECORD_KEPT if final else LAPSE)
        takings = self._counters.take(limits, amounts, now)
        state: State = "settled" if final else "reserved"
        self._charges[charge] = _Charge(state, keep, amounts, limits, due, self._serial, now, takings)
        return Admitted(self._counters.standings(limits, now))

    async def settle(self, charge: ChargeId, amounts: Amounts) -> Admitted | Refused:
        now, amounts = self._begin(), amounts.bounded()
        known = self._charges.get(charge)
        if known is None:
            return Admitted(())
        if known.state in ("refunded", "settled"):
            return Admitted(self._counters.standings(known.limits, now))
        over = amounts.over(known.amounts if known.state == "reserved" else Amounts(0, 0, 0))
        failing = self._counters.failing(known.limits, amounts, over, now)
        if failing:
            self._lapse(known, now)
            return self._counters.refused(failing, amounts, now)
        for taking in known.takings:
            taking.amount = min(taking.amount, getattr(amounts, taking.unit))
        known.takings += self._counters.take(known.limits, over, now)
        known.state, known.due = "settled", now + RECORD_KEPT
        return Admitted(self._counters.standings(known.limits, now))

    async def release(self, charge: ChargeId) -> bool:
        self._begin()
        known = self._charges.get(charge)
        if known is None or known.state != "reserved":
            return False
        known.give_back()
        del self._charges[charge]
        self._moved()
        return True

    async def refund(self, mta: str, queue_id: str, subject: str) -> bool:
        now = self._begin()
        known = self._newest(mta, queue_id)
        if known is None or known.submission is None or known.submission.principal != subject:
            return False
        charged = known.state in ("reserved", "settled")
        if charged:
            known.give_back()
            self._moved()
        if known.state != "refunded":
            known.state, known.due = "refunded", now + RECORD_KEPT
        return charged

    async def record(self, mta: str, queue_id: str) -> Submission | None:
        self._begin()
        known = self._newest(mta, queue_id)
        return known.submission if known and known.state in ("reserved", "settled") else None

    async def take_up(self, mta: str, queue_id: str) -> Submission | None:
        self._begin()
        known = self._newest(mta, queue_id)
        if known is None or known.state not in ("reserved", "settled"):
            return None
        known.taken_up = True
        return known.submission

    async def refund_untaken(self, mta: str, older_than: float) -> int:
        now = self._begin()
        last, count = now - older_than, 0
        for charge, known in self._charges.items():
            untaken = known.submission and not known.taken_up and known.state in ("reserved", "settled")
            if charge.mta == mta and untaken and last - UNTAKEN_WITHIN <= known.made <= last:
                known.give_back()
                known.state, known.due = "refunded", now + RECORD_KEPT
                count += 1
        if count:
            self._moved()
        return count

    async def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> tuple[Standing, ...]:
        now = self._begin()
        return self._counters.standings(((subject, limit, True) for subject, limit in pairs), now)

    async def reset(self, subject: str, author: str, reason: str) -> int:
        now = self._begin()
        count = self._counters.forget(subject, now)
        self.audit.append((now, author, "reset", subject, reason))
        self._moved()
        return count

    def watch(self, changed: Callable[[int, tuple[Block, ...]], None]) -> None:
        self._watchers.append(changed)
        if self.available:
            changed(self._generation, self._current())

    def start(self) -> None:
        """Nothing to begin."""

    async def stop(self) -> None:
        """Nothing to close."""

    def state(self) -> Literal["ok", "unavailable"]:
        return "ok" if self.available else "unavailable"

    def _begin(self) -> float:
        if not self.available:
            raise Unavailable("the model was told to be away")
        now = self._clock()
        for charge, known in list(self._charges.items()):
            if known.due <= now:
                if known.state == "reserved":
                    self._lapse(known, now)
                else:
                    self._charges.pop(charge, None)  # whoever was told of a lapse may have asked meanwhile
        return now

    def _lapse(self, known: _Charge, now: float) -> None:
        known.give_back()
        known.state, known.due = "lapsed", now + LAPSED_KEPT
        self._moved()

    def _moved(self) -> None:
        self._generation += 1
        for changed in self._watchers:
            changed(self._generation, self._current())

    def _newest(self, mta: str, queue_id: str) -> _Charge | None:
        found = (c for charge, c in self._charges.items() if (charge.mta, charge.queue_id) == (mta, queue_id))
        return max(found, key=lambda known: known.serial, default=None)
