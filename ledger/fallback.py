"""Going on while Redis is away: this host counts in its own file, beginning at the last known standing.

Knows what was counted where, and how it comes together again: once, by charge id. Must not know Redis, nor
how the file counts.

What the last answers of Redis said to be used is held against each limit for as long as Redis is away, so a
limit is never larger than it was; each host can then spend what was left once. It lies in the file too, for a
process that starts meanwhile. When Redis is back, what was counted here is added there, whatever the limit,
and given back here. Every sidecar of the host may do that, at the same time too.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from ledger import script
from ledger.charges import Admitted, Amounts, ChargeId, Held, Refused, Submission, Unavailable
from ledger.limits import PER_MESSAGE, Limit, Standing
from ledger.marks import Mark
from ledger.rows import Outstanding
from ledger.script import Clock, Verb
from ledger.sqlite import SqliteLedger

MOST = 10_000  # standings, and charges, that are held in memory
STANDINGS = "standings"  # the key of the marks in the file

_NOTHING = Amounts(0, 0, 0)

Hand = Callable[[Verb, Callable[[Any, Clock], Any]], Deferred[Any]]
Key = tuple[str, str, int]  # subject, unit, window


class Fallback:
    """`local` counts; `hand` hands a verb to Redis."""

    def __init__(self, local: SqliteLedger, hand: Hand, log: Any) -> None:
        self._local = local
        self._hand = hand
        self._log = log
        self._known: OrderedDict[Key, int] = OrderedDict()
        self._mine: OrderedDict[ChargeId, None] = OrderedDict()
        self._joining, self._writing = _Alone(self._rejoin), _Alone(self._write)
        self._is_kept = self._is_recalled = False

    def counts(self, charge: ChargeId) -> bool:
        """Whether `charge` was reserved here and is not in Redis yet, as far as this process knows."""
        return charge in self._mine

    def learn(self, outcome: Admitted | Refused) -> Admitted | Refused:
        """Remember what an answer of Redis says to be used."""
        told = (outcome.standing,) if isinstance(outcome, Refused) else outcome.standings
        for standing in told:
            if standing.limit.window != PER_MESSAGE:
                _remember(self._known, _key(standing.subject, standing.limit), standing.used)
                self._is_kept = False
        return outcome

    async def keep(self) -> None:
        """Wait until what is known is in the file; begins with it if need be.

        After a fault it is not tried again before something new is learnt.
        """
        while self._writing.is_busy or (self._known and not self._is_kept):
            await self._writing.done()

    async def _write(self) -> None:
        """What is known goes into the file, each for as long as its window is."""
        self._is_kept = True
        try:
            await self._recall()
            marks = (Mark(STANDINGS, json.dumps([*key, used]), key[2]) for key, used in self._known.items())
            await self._local.guard_drop(((STANDINGS, ""),))
            await self._local.guard_note(tuple(marks))
        except (Unavailable, CancelledError) as trouble:
            self._log.warning("ledger", reason=f"what is used is known to this process alone: {trouble}")

    async def _recall(self) -> None:
        """Take what a process before this one has kept, for whatever Redis has not told this one."""
        if self._is_recalled:
            return
        for text in await self._local.guard_names(STANDINGS):
            subject, unit, window, used = json.loads(text)
            self._known.setdefault((subject, unit, window), used)
        self._is_recalled = True

    async def reserve(
        self,
        charge: ChargeId,
        submission: Submission | None,
        amounts: Amounts,
        limits: tuple[Held, ...],
        final: bool,
    ) -> Admitted | Refused:
        """Reserve in the file, under what is left of each limit."""
        await self._recall()
        outcome = await self._local.reserve(charge, submission, amounts, self._left(limits), final=final)
        if isinstance(outcome, Admitted):
            _remember(self._mine, charge, None)
        return self._in_full(outcome, limits, amounts)

    async def settle(self, charge: ChargeId, amounts: Amounts) -> Admitted | Refused:
        """Settle in the file. Unavailable for what is in Redis: only Redis can."""
        if charge in self._mine:
            outcome = await self._local.settle(charge, amounts)
            if isinstance(outcome, Refused) or outcome.standings:
                return outcome
        self._mine.pop(charge, None)  # another sidecar may have added it
        raise Unavailable("it is in Redis")

    async def release(self, charge: ChargeId) -> bool:
        """Release in the file. Unavailable for what is in Redis."""
        if self._mine.pop(charge, self) is self or not await self._local.release(charge):
            raise Unavailable("it is in Redis")
        return True

    async def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> tuple[Standing, ...]:
        """The standings that hold here while Redis is away."""
        await self._recall()
        held = tuple((subject, limit, True) for subject, limit in pairs)
        left = tuple((subject, limit) for subject, limit, _ in self._left(held))
        outcome = self._in_full(Admitted(await self._local.standing(left)), held)
        return outcome.standings if isinstance(outcome, Admitted) else ()

    async def rejoined(self) -> None:
        """Wait until what was counted here is in Redis; begins with it if need be."""
        await self._joining.done()

    async def _rejoin(self) -> None:
        count = 0
        try:
            while rows := await self._local.outstanding(64):
                for row in rows:
                    count += await self._add(row)
        except (Unavailable, CancelledError, ValueError) as trouble:
            self._log.warning("ledger", store="redis", reason=f"not all is added yet: {trouble}")
        if count:
            self._log.notice("ledger", store="redis", text=f"{count} charges of this host were added")

    async def _add(self, row: Outstanding) -> bool:
        """Tell Redis of a charge, which costs nothing if it knows it; and forget it here if it is still as it
        was read. False when it is not, or another sidecar was first."""
        charge, submission, amounts, limits, settled = row
        seen = tuple((subject, limit, False) for subject, limit, _ in limits)
        final = settled and submission is None

        def learn(told: Any, clock: Clock) -> None:
            self.learn(script.read_outcome(told, seen, clock))

        def learn_settled(told: Any, clock: Clock) -> None:
            self.learn(script.read_settled(told, clock))

        await self._hand(script.reserve(charge, submission, amounts, seen, final), learn)
        if settled and not final:
            await self._hand(script.settle(charge, amounts), learn_settled)
        state = await self._local.forget(charge, settled)
        if state == "refunded" and submission is not None:
            refund = script.refund(charge.mta, charge.queue_id, submission.principal)
            await self._hand(refund, lambda *_: None)
        if state != "moved":
            self._mine.pop(charge, None)
        return state == "forgotten"

    def _left(self, limits: tuple[Held, ...]) -> tuple[Held, ...]:
        return tuple(
            (subject, replace(limit, amount=max(0, limit.amount - self._used(subject, limit))), enforce)
            for subject, limit, enforce in limits
        )

    def _used(self, subject: str, limit: Limit) -> int:
        return 0 if limit.window == PER_MESSAGE else self._known.get(_key(subject, limit), 0)

    def _in_full(
        self, outcome: Admitted | Refused, limits: tuple[Held, ...], amounts: Amounts = _NOTHING
    ) -> Admitted | Refused:
        if isinstance(outcome, Admitted):
            pairs = zip(outcome.standings, limits, strict=True)
            return Admitted(tuple(self._whole(standing, limit) for standing, (_, limit, _) in pairs))
        left = self._left(limits)
        limit = next(
            full[1]
            for full, part in zip(limits, left, strict=True)
            if part[1] == outcome.limit and part[0] == outcome.standing.subject
        )
        reopens = outcome.reopens_at
        if reopens is None and limit.window and getattr(amounts, limit.unit) <= limit.amount:
            reopens = time.time() + limit.window  # not while Redis is away, and at the latest then
        return Refused(limit, self._whole(outcome.standing, limit), reopens)

    def _whole(self, standing: Standing, limit: Limit) -> Standing:
        return replace(standing, limit=limit, used=standing.used + self._used(standing.subject, limit))


class _Alone:
    """Something that is done once at a time: whoever wants it meanwhile waits for the one that has begun."""

    def __init__(self, begin: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        self._begin = begin
        self._busy: Deferred[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it has begun and not ended."""
        return self._busy is not None

    async def done(self) -> None:
        """Wait for its end; begins it unless it has begun."""
        busy = self._busy
        if busy is None:
            busy = self._busy = Deferred()
            Deferred.fromCoroutine(self._begin()).addBoth(self._ended)
        waiter: Deferred[None] = Deferred()
        busy.addCallback(lambda _: waiter.callback(None))
        await waiter

    def _ended(self, result: object) -> None:
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.callback(None)


def _key(subject: str, limit: Limit) -> Key:
    return subject, limit.unit, limit.window


def _remember(held: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    held[key] = value
    held.move_to_end(key)
    if len(held) > MOST:
        held.popitem(last=False)
