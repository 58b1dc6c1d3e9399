"""The ledger that several hosts share: its verbs, as the reactor sees them.

Knows what is said for a verb and what its answer means. Must not know Redis (ledger.redis), when it is spoken
to (ledger.runner), nor what a verb does (charge.lua). Blocks are judged by the node's own copy in its local
file; `ledger.copies` keeps both the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred, fail

from ledger import script
from ledger.blocks import Block
from ledger.charges import Admitted, Amounts, ChargeId, Held, Refused, Submission, Unavailable
from ledger.copies import Copies
from ledger.limits import Limit, Standing
from ledger.runner import Runner
from ledger.script import Clock
from ledger.settings import LedgerSettings
from ledger.sqlite import SqliteLedger

Changed = Callable[[int, tuple[Block, ...]], None]


class SharedLedger:
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
        self.runner = Runner(settings.redis, reactor=reactor, log=log, clock=clock)
        self.copies = Copies(local, self.runner.hand, log)
        self.runner.look, self.runner.seen = self.copies.look, self.copies.seen
        self.runner.away = self.copies.away

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
        return self.runner.ask(verb, lambda answer, clock: script.read_outcome(answer, limits, clock))

    def settle(self, charge: ChargeId, amounts: Amounts) -> Deferred[Admitted | Refused]:
        def read(answer: list[bytes], clock: Clock) -> Admitted | Refused:
            return script.read_outcome(answer[0], script.read_limits(answer[1]), clock)

        return self.runner.ask(script.settle(charge, amounts), read)

    def release(self, charge: ChargeId) -> Deferred[bool]:
        return self.runner.ask(script.release(charge), _truth)

    def refund(self, mta: str, queue_id: str, subject: str) -> Deferred[bool]:
        return self.runner.ask(script.refund(mta, queue_id, subject), _truth)

    def record(self, mta: str, queue_id: str) -> Deferred[Submission | None]:
        def read(answer: list[bytes], clock: Clock) -> Submission | None:
            return Submission(*map(script.read, answer)) if answer else None

        return self.runner.ask(script.record(mta, queue_id), read)

    def standing(self, pairs: tuple[tuple[str, Limit], ...]) -> Deferred[tuple[Standing, ...]]:
        held = tuple((subject, limit, True) for subject, limit in pairs)

        def read(answer: bytes, clock: Clock) -> tuple[Standing, ...]:
            outcome = script.read_outcome(answer, held, clock)
            return outcome.standings if isinstance(outcome, Admitted) else ()

        try:
            return self.runner.ask(script.standing(pairs), read)
        except ValueError as wrong:
            return fail(Unavailable(f"the request cannot be kept: {wrong}"))

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
        return self.runner.stop().addBoth(lambda _: self.copies.stop())

    def state(self) -> Literal["ok", "unavailable"]:
        return "ok" if self.runner.reached else "unavailable"


def _truth(answer: bytes, clock: Clock) -> bool:
    return answer == b"1"
