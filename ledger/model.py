"""The reference ledger: every verb, in memory, as plainly as it can be said.

Knows what the verbs of `ledger.charges` mean; every store is compared with it, and tests of other packages
use it. Must not know a database, a thread or what time it is: the clock is handed in.

Each thing taken is an object of its own. Giving it back, moving it (the clock was set back) or forgetting it
(a reset) changes that very object, so no bookkeeping can miss it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from ledger.blocks import Block
from ledger.charges import (
    ENDED_BLOCK_KEPT,
    LAPSE,
    LAPSED_KEPT,
    RECORD_KEPT,
    Admitted,
    Amounts,
    ChargeId,
    Held,
    Refused,
    Submission,
    Unavailable,
    last_to_reopen,
)
from ledger.limits import PER_MESSAGE, Limit, Standing, Unit, bucket_of, oldest_counted, reopens_at

Counter = tuple[str, Unit, int]


@dataclass(slots=True)
class _Taking:
    bucket: int
    amount: int


@dataclass(slots=True)
class _Charge:
    state: Literal["reserved", "settled", "refunded", "lapsed"]
    submission: Submission | None
    amounts: Amounts
    limits: tuple[Held, ...]
    due: float
    serial: int
    takings: list[tuple[Counter, _Taking]] = field(default_factory=list)


class ModelLedger:
    """A `Ledger` in memory. `clock` gives epoch seconds; `available` False makes every verb Unavailable."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.available = True
        self.audit: list[tuple[float, str, str, str, str]] = []
        self._clock = clock
        self._counters: dict[Counter, list[_Taking]] = {}
        self._charges: dict[ChargeId, _Charge] = {}
        self._blocks: dict[str, Block] = {}
        self._lifted: set[str] = set()
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
            return Admitted(self._standings(limits, now))
        returned = self._give_back(known) if known and known.state == "reserved" else []
        refused = self._refusal(limits, amounts, amounts, now)
        if refused:
            for taking, amount in returned:
                taking.amount = amount
            return refused
        self._serial += 1
        keep = None if final else submission
        due = now + (RECORD_KEPT if final else LAPSE)
        made = _Charge("settled" if final else "reserved", keep, amounts, limits, due, self._serial)
        self._take(made, amounts, now)
        self._charges[charge] = made
        return Admitted(self._standings(limits, now))

    async def settle(self, charge: ChargeId, amounts: Amounts) -> Admitted | Refused:
        now, amounts = self._begin(), amounts.bounded()
        known = self._charges.get(charge)
        if known is None:
            return Admitted(())
        if known.state in ("refunded", "settled"):
            return Admitted(self._standings(known.limits, now))
        over = amounts.over(known.amounts if known.state == "reserved" else Amounts(0, 0, 0))
        failing = self._failing(known.limits, amounts, over, now)
        if failing:
            self._lapse(known, now)
            return self._last(failing, amounts, now)
        for (_, unit, _), taking in known.takings:
            taking.amount = min(taking.amount, getattr(amounts, unit))
        self._take(known, over, now)
        known.state, known.due = "settled", now + RECORD_KEPT
        return Admitted(self._standings(known.limits, now))

    async def release(self, charge: ChargeId) -> bool:
        self._begin()
        known = self._charges.get(charge)
        if known is None or known.state != "reserved":
            return False
        self._give_back(known)
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
            self._give_back(known)
            self._moved()
        if known.state != "refunded":
            known.state, known.due = "refunded", now + RECORD_KEPT
        return charged

    async def record(self, mta: str, queue_id: str) -> Submission | None:
        self._begin()
        known = self._newest(mta, queue_id)
        return known.submission if known and known.state != "lapsed" else None

    async def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> tuple[Standing, ...]:
        now = self._begin()
        return self._standings(((subject, limit, True) for subject, limit in pairs), now)

    async def reset(self, subject: str, author: str, reason: str) -> int:
        now = self._begin()
        mine = [counter for counter in self._counters if counter[0] == subject]
        count = sum(1 for counter in mine if sum(amount for _, amount in self._buckets(counter, now)))
        for counter in mine:
            del self._counters[counter]
        self.audit.append((now, author, "reset", subject, reason))
        self._moved()
        return count

    async def blocks(self) -> tuple[int, tuple[Block, ...]]:
        self._begin()
        return self._generation, self._current()

    async def block(self, block: Block) -> Block:
        now = self._begin()
        old = self._blocks.get(block.id)
        kept = replace(block, version=old.version + 1) if old and block.id not in self._lifted else block
        if not block.id or block.id in self._lifted:
            kept = replace(block, id=f"b{len(self._blocks) + 1}", version=1)
        self._blocks[kept.id] = kept
        self.audit.append((now, kept.author, "block", kept.subject, kept.reason))
        self._moved()
        return kept

    async def lift(self, block_id: str, author: str, reason: str) -> bool:
        now = self._begin()
        if block_id not in self._blocks or block_id in self._lifted:
            return False
        self._lifted.add(block_id)
        self.audit.append((now, author, "lift", self._blocks[block_id].subject, reason))
        self._moved()
        return True

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
                    del self._charges[charge]
        return now

    def _lapse(self, known: _Charge, now: float) -> None:
        self._give_back(known)
        known.state, known.due = "lapsed", now + LAPSED_KEPT
        self._moved()

    def _moved(self) -> None:
        self._generation += 1
        for changed in self._watchers:
            changed(self._generation, self._current())

    def _current(self) -> tuple[Block, ...]:
        since = self._clock() - ENDED_BLOCK_KEPT
        held = (block for block in self._blocks.values() if block.id not in self._lifted)
        return tuple(block for block in held if block.end is None or block.end > since)

    def _newest(self, mta: str, queue_id: str) -> _Charge | None:
        found = (c for charge, c in self._charges.items() if (charge.mta, charge.queue_id) == (mta, queue_id))
        return max(found, key=lambda known: known.serial, default=None)

    def _buckets(self, counter: Counter, now: float) -> list[tuple[int, int]]:
        """What counts of a counter at `now`; what lies in the future is now's from here on."""
        current, oldest = bucket_of(now, counter[2]), oldest_counted(now, counter[2])
        takings = [taking for taking in self._counters.get(counter, ()) if taking.bucket >= oldest]
        self._counters[counter] = takings
        for taking in takings:
            taking.bucket = min(taking.bucket, current)
        return [(taking.bucket, taking.amount) for taking in takings]

    def _take(self, charge: _Charge, amounts: Amounts, now: float) -> None:
        for counter in dict.fromkeys(_counter(held) for held in charge.limits if held[1].window):
            amount = getattr(amounts, counter[1])
            if amount:
                taking = _Taking(bucket_of(now, counter[2]), amount)
                self._counters.setdefault(counter, []).append(taking)
                charge.takings.append((counter, taking))

    def _give_back(self, charge: _Charge) -> list[tuple[_Taking, int]]:
        returned = [(taking, taking.amount) for _, taking in charge.takings]
        for taking, _ in returned:
            taking.amount = 0
        return returned

    def _standings(self, limits: Iterable[Held], now: float) -> tuple[Standing, ...]:
        return tuple(self._standing(held, now) for held in limits)

    def _standing(self, held: Held, now: float) -> Standing:
        subject, limit, _ = held
        if limit.window == PER_MESSAGE:
            return Standing(subject, limit, 0)
        buckets = self._buckets(_counter(held), now)
        used = sum(amount for _, amount in buckets)
        return Standing(
            subject, limit, used, reopens_at(buckets, limit, 1, now) if used >= limit.amount else None
        )

    def _failing(self, limits: tuple[Held, ...], whole: Amounts, over: Amounts, now: float) -> list[Held]:
        """The enforced limits under which `over` cannot be taken, `whole` being all the message has."""
        failing = []
        for held in limits:
            limit, wanted = held[1], getattr(over, held[1].unit)
            if limit.window == PER_MESSAGE:
                fits = getattr(whole, limit.unit) <= limit.amount
            else:
                fits = self._standing(held, now).used + wanted <= limit.amount
            if held[2] and wanted and not fits:
                failing.append(held)
        return failing

    def _last(self, failing: list[Held], amounts: Amounts, now: float) -> Refused:
        return last_to_reopen(self._refused(held, getattr(amounts, held[1].unit), now) for held in failing)

    def _refused(self, held: Held, wanted: int, now: float) -> Refused:
        limit = held[1]
        never = limit.window == PER_MESSAGE
        at = None if never else reopens_at(self._buckets(_counter(held), now), limit, wanted, now)
        return Refused(limit, self._standing(held, now), at)

    def _refusal(self, limits: tuple[Held, ...], whole: Amounts, over: Amounts, now: float) -> Refused | None:
        failing = self._failing(limits, whole, over, now)
        return self._last(failing, whole, now) if failing else None


def _counter(held: Held) -> Counter:
    return held[0], held[1].unit, held[1].window
