"""The ledger that several hosts share: its verbs, as the reactor sees them.

Knows what is said for a verb and what its answer means. Must not know Redis (ledger.redis), when it is spoken
to (ledger.runner), nor what a verb does (charge.lua). Blocks are judged by the node's own copy in its local
file; `ledger.copies` keeps both the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred, fail

from ledger import script
from ledger.blocks import Block
from ledger.charges import Admitted, Amounts, ChargeId, Held, Refused, Submission, Unavailable
from ledger.copies import Copies
from ledger.fallback import Fallback
from ledger.limits import Limit, Standing
from ledger.runner import Runner
from ledger.script import Clock, Verb
from ledger.settings import LedgerSettings
from ledger.shared_auth import SharedAuth
from ledger.shared_events import SharedEvents
from ledger.sqlite import SqliteLedger

Changed = Callable[[int, tuple[Block, ...]], None]


class SharedLedger(SharedAuth, SharedEvents):
    """A `charges.Ledger`. Every verb gives a Deferred that fails with nothing but Unavailable."""

    def __init__(
        self,
        settings: LedgerSettings,
        *,
        local: SqliteLedger,
        reactor: Any,
        log: Any,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock` tells the time in place of the server's, for tests."""
        self._uptime = clock or time.monotonic
        self._log = log
        local_too = settings.unavailable == "local"
        runner = Runner(settings.redis, reactor=reactor, log=log, clock=clock)
        super().__init__(runner, local if local_too else None)
        self.copies = Copies(local, self.runner.hand, log)
        self.runner.look, self.runner.seen = self.copies.look, self._seen
        self.runner.away = self._away
        self._fallback = Fallback(local, self.runner.hand, log) if local_too else None

    def reserve(
        self,
        charge: ChargeId,
        submission: Submission | None,
        amounts: Amounts,
        limits: tuple[Held, ...],
        *,
        final: bool = False,
    ) -> Deferred[Admitted | Refused]:
        """See `charges.Ledger`, as for all verbs below."""
        try:
            verb = script.reserve(charge, submission, amounts, limits, final)
        except ValueError as wrong:
            return fail(Unavailable(f"the request cannot be kept: {wrong}"))

        def read(told: bytes, clock: Clock) -> Admitted | Refused:
            return script.read_outcome(told, limits, clock)

        asked = self.runner.ask(verb, read)
        fallback = self._fallback
        if fallback is None:
            return asked

        async def reserve() -> Admitted | Refused:
            try:
                return fallback.learn(await asked)
            except Unavailable:
                return await fallback.reserve(charge, submission, amounts, limits, final)

        return Deferred.fromCoroutine(reserve())

    def settle(self, charge: ChargeId, amounts: Amounts) -> Deferred[Admitted | Refused]:
        fallback = self._fallback
        if fallback is None:
            return self.runner.ask(script.settle(charge, amounts), script.read_settled)

        async def settle() -> Admitted | Refused:
            if fallback.counts(charge):
                if self.runner.trouble:
                    return await fallback.settle(charge, amounts)
                await fallback.rejoined()
            return fallback.learn(await self.runner.ask(script.settle(charge, amounts), script.read_settled))

        return Deferred.fromCoroutine(settle())

    def release(self, charge: ChargeId) -> Deferred[bool]:
        async def release() -> bool:
            if self._fallback and self._fallback.counts(charge):
                if self.runner.trouble:
                    return await self._fallback.release(charge)
                await self._fallback.rejoined()
            return await self.runner.ask(script.release(charge), _truth)

        return Deferred.fromCoroutine(release())

    def refund(self, mta: str, queue_id: str, subject: str) -> Deferred[bool]:
        async def refund() -> bool:
            try:
                there = await self.runner.ask(script.refund(mta, queue_id, subject), _truth)
            except Unavailable:
                if self._fallback is None or not await self.copies.local.refund(mta, queue_id, subject):
                    raise
                return True
            here = self._fallback is not None and not there
            return there or (here and await self.copies.local.refund(mta, queue_id, subject))

        return Deferred.fromCoroutine(refund())

    def record(self, mta: str, queue_id: str) -> Deferred[Submission | None]:
        asked = self.runner.ask(script.record(mta, queue_id), _submission)
        return self._or_here(asked, lambda: self.copies.local.record(mta, queue_id))

    def take_up(self, mta: str, queue_id: str) -> Deferred[Submission | None]:
        asked = self.runner.ask(script.take_up(mta, queue_id), _submission)
        return self._or_here(asked, lambda: self.copies.local.take_up(mta, queue_id))

    def _or_here(
        self, asked: Deferred[Submission | None], here: Callable[[], Deferred[Submission | None]]
    ) -> Deferred[Submission | None]:
        """What Redis has, or else, where this host may count by itself, what it has."""
        if self._fallback is None:
            return asked

        async def find() -> Submission | None:
            try:
                found = await asked
            except Unavailable:
                found = await here()
                if found is None:
                    raise
            return found if found is not None else await here()

        return Deferred.fromCoroutine(find())

    def refund_untaken(self, mta: str, older_than: float) -> Deferred[int]:
        called = self._uptime() - older_than  # counted from now, however long Redis keeps us waiting

        def since() -> float:
            return self._uptime() - called

        async def refund_untaken() -> int:
            count = await self.runner.ask(script.refund_untaken(mta, since), lambda answer, _: int(answer))
            return count or (await self.copies.local.refund_untaken(mta, since()) if self._fallback else 0)

        return Deferred.fromCoroutine(refund_untaken())

    def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> Deferred[tuple[Standing, ...]]:
        held = tuple((subject, limit, True) for subject, limit in pairs)

        def read(answer: bytes, clock: Clock) -> tuple[Standing, ...]:
            outcome = script.read_outcome(answer, held, clock)
            return outcome.standings if isinstance(outcome, Admitted) else ()

        async def standing() -> tuple[Standing, ...]:
            try:
                return await self.runner.ask(_kept(script.standing, pairs), read)
            except Unavailable:
                if self._fallback is None:
                    raise
                return await self._fallback.standing(pairs)

        return Deferred.fromCoroutine(standing())

    def reset(self, subject: str, author: str, reason: str) -> Deferred[int]:
        return self.runner.ask(script.reset(subject, author, reason), lambda answer, _: int(answer))

    def blocks(self) -> Deferred[tuple[int, tuple[Block, ...]]]:
        return Deferred.fromCoroutine(self.copies.blocks())

    def block(self, block: Block) -> Deferred[Block]:
        return Deferred.fromCoroutine(self.copies.block(block))

    def lift(self, block_id: str, author: str, reason: str) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.copies.lift(block_id, author, reason))

    def watch(self, changed: Changed) -> None:
        self.copies.watch(changed)

    def start(self) -> None:
        self.copies.start()
        self.runner.start()

    def stop(self) -> Deferred[None]:
        async def stop() -> None:
            await self.runner.stop()
            if self._fallback:
                await self._fallback.keep()
            await self.copies.stop()

        return Deferred.fromCoroutine(stop())

    def state(self) -> Literal["ok", "degraded", "unavailable"]:
        local = self.copies.local.state() == "ok"
        if self.runner.reached:
            return "ok" if local else "degraded"
        return "degraded" if self._fallback and local else "unavailable"

    def _away(self) -> None:
        self.copies.away()
        if self._fallback:
            Deferred.fromCoroutine(self._fallback.keep())

    def _seen(self, looked: list[bytes | None], fresh: bool) -> None:
        self.copies.seen(looked, fresh)
        if fresh:
            Deferred.fromCoroutine(self.tell_events(self._log))
        if fresh and self._fallback:
            Deferred.fromCoroutine(self._fallback.rejoined())


def _kept(make: Callable[..., Verb], *arguments: object) -> Verb:
    """The verb, or Unavailable when its values cannot be said."""
    try:
        return make(*arguments)
    except ValueError as wrong:
        raise Unavailable(f"the request cannot be kept: {wrong}") from None


def _submission(answer: list[bytes], clock: Clock) -> Submission | None:
    return Submission(*map(script.read, answer)) if answer else None


def _truth(answer: bytes, clock: Clock) -> bool:
    return answer == b"1"
