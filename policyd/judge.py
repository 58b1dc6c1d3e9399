"""One request from question to verdict: asks the directory and the ledger for what judgement needs.

Knows when which store is asked, and answers without awaiting when memory has it all. Must not know the wire,
connections or deadlines: whoever awaits may cancel, and what was not answered then counts as unavailable.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from directory.identity import Directory, Principal, Question
from directory.identity import Unavailable as DirectoryUnavailable
from ledger.blocks import Block, Blocklist, Calendar
from ledger.charges import Admitted, ChargeId, Ledger, Refused
from ledger.grants import Grants
from ledger.limits import Standing
from policyd.attempts import charge_id
from policyd.facts import AWAY, Away, Charge, Context, Facts, Inquiry, Rules, Verdict
from policyd.inquiry import plan
from policyd.memory import Reservations, Scoping, Standings, Transactions
from policyd.narrowing import look_up
from policyd.restrictions import conclude, decide
from policyd.scopes import NO_GRANTS, Scope
from policyd.settlements import Settlements, ask
from policyd.spending import Outcome
from policyd.wire import Request

Found = Principal | Away | None
Spending = tuple[tuple[Scope, ...], tuple[Standing, ...]]
Later = Coroutine[Deferred[Any], Any, Verdict]
_RELEASES_UNSETTLED = 20  # reservations given back before we say that END-OF-MESSAGE never comes
_HOUR = 3600.0
FIRST_BLOCKS = 1.0  # seconds after the start in which a request waits for the blocks


class Judge:
    """Judges requests by `rules`, which may be exchanged at any time, as may `directory` and `ledger`."""

    def __init__(
        self,
        rules: Rules,
        directory: Directory,
        ledger: Ledger,
        *,
        reactor: Any,
        log: Any,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] | None = None,
    ) -> None:
        self.rules = rules
        self.directory = directory
        self.settlements = Settlements(ledger, reactor=reactor, log=log)
        self.blocks: Blocklist | None = None
        self.grants = NO_GRANTS
        self.ended = 0  # END-OF-MESSAGE requests seen
        self._ledger = ledger
        self._transactions = Transactions()
        self._standings = Standings()
        self._scoping = Scoping()
        self._reservations = Reservations()
        self._released = 0
        self._warned = -_HOUR
        self._waiting: list[Deferred[None]] | None = None  # requests that came before the blocks were read
        self._reactor = reactor
        self._log = log
        self._clock = clock
        self._calendar = Calendar(clock, uptime or clock)
        self._watch(ledger)

    @property
    def ledger(self) -> Ledger:
        """Where charges go."""
        return self._ledger

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        self._ledger = self.settlements.ledger = ledger
        self._watch(ledger)

    def _watch(self, ledger: Ledger) -> None:
        def changed(generation: int, blocks: tuple[Block, ...]) -> None:
            if ledger is self._ledger:
                dated, tell = self._calendar.date(blocks), self._calendar.tell
                self.blocks, self.grants = Blocklist(dated, tell), Grants(dated, tell)
                self._standings.clear()
                self._open()
                self.settlements.hurry()

        ledger.watch(changed)

    def start(self) -> None:
        """Begin. For a moment requests wait for the first reading of the blocks."""
        self._waiting = []
        self._reactor.callLater(FIRST_BLOCKS, self._open)
        self.directory.start()
        self.ledger.start()

    def _open(self) -> None:
        waiting, self._waiting = self._waiting, None
        for waiter in waiting or ():
            waiter.callback(None)

    def forget_standings(self) -> None:
        """The plans have changed: what was held of them means nothing any more."""
        self._standings.clear()

    def judge(self, request: Request, context: Context, mta: str, connection: int = 0) -> Verdict | Later:
        """The verdict; awaitable only when a store has to be waited for. `connection` numbers who asks."""
        if self._waiting is not None and self.blocks is None:
            return self._when_open(request, context, mta, connection)
        inquiry = plan(request, context, connection)
        if inquiry.state == "END-OF-MESSAGE":
            self.ended += 1
        found = self._who(inquiry.questions)
        if found is None or found is AWAY or isinstance(found, Principal):
            return self._with(request, inquiry, mta, found)
        return self._when_found(request, inquiry, mta, found)

    async def _when_open(self, request: Request, context: Context, mta: str, connection: int) -> Verdict:
        if self._waiting is not None:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter
        verdict = self.judge(request, context, mta, connection)
        return verdict if isinstance(verdict, Verdict) else await verdict

    async def _when_found(
        self, request: Request, inquiry: Inquiry, mta: str, finding: Awaitable[Found]
    ) -> Verdict:
        verdict = self._with(request, inquiry, mta, await finding)
        return verdict if isinstance(verdict, Verdict) else await verdict

    def _who(self, questions: tuple[Question, ...]) -> Found | Awaitable[Found]:
        for asked, question in enumerate(questions, 1):
            try:
                found = look_up(question, self.directory, self._ledger, self.rules.addresses, self._clock)
            except DirectoryUnavailable:
                return AWAY
            if isinstance(found, Principal):
                return found
            if found is not None:
                return self._who_later(found, questions[asked:])
        return None

    async def _who_later(self, finding: Awaitable[Principal | None], others: tuple[Question, ...]) -> Found:
        try:
            found = await finding
        except (DirectoryUnavailable, CancelledError):
            return AWAY
        if found is not None:
            return found
        next_found = self._who(others)
        if next_found is None or next_found is AWAY or isinstance(next_found, Principal):
            return next_found
        return await next_found

    def _with(self, request: Request, inquiry: Inquiry, mta: str, found: Found) -> Verdict | Later:
        facts = self._facts(request, inquiry, mta, found)
        verdict = decide(request, inquiry, facts, self.rules)
        if verdict.charge is not None:
            return self._charge(request, inquiry, facts, verdict, verdict.charge)
        if facts.judged:  # what was reserved at DATA is refused at its end
            self.abandon(mta, request)
        self._note(request, inquiry, mta, verdict)
        return verdict

    async def _charge(
        self, request: Request, inquiry: Inquiry, facts: Facts, verdict: Verdict, charge: Charge
    ) -> Verdict:
        rules, mta = self.rules, facts.mta
        attempt, at_end = charge_id(request, mta, by=rules.charge, number=facts.recipients), False
        if inquiry.state == "END-OF-MESSAGE":
            attempt, at_end = charge_id(request, mta), True
        outcome = await (self._settle(attempt, charge) if at_end else self._reserve(attempt, charge, rules))
        if verdict.principal is not None and outcome is not AWAY and rules.mode("limits") == "enforce":
            self._standings.learn(outcome, facts.now)
        verdict = conclude(request, inquiry, facts, rules, verdict, outcome)
        if outcome is AWAY and verdict.found is not None:  # deferred: whatever was taken is of no use
            self.settlements.give_back(attempt)
        self._note(request, inquiry, mta, verdict)
        return verdict

    async def _reserve(self, charge_id: ChargeId, charge: Charge, rules: Rules) -> Outcome:
        final = rules.charge == "rcpt"
        self.settlements.withdraw(charge_id)
        known = self._reservations.get(charge_id)
        if known is None and not final:
            self._reservations.set(charge_id, False)  # it may be taken and the answer be lost
        asked = self._ledger.reserve(charge_id, charge.submission, charge.amounts, charge.limits, final=final)
        outcome = await ask(asked)
        if isinstance(outcome, Admitted) and not final:
            self._reservations.set(charge_id, True)
        elif isinstance(outcome, Refused) and known is None:
            self._reservations.drop(charge_id)
        return outcome

    async def _settle(self, charge_id: ChargeId, charge: Charge) -> Outcome:
        outcome = await ask(self._ledger.settle(charge_id, charge.amounts))
        self._reservations.drop(charge_id)
        if outcome is AWAY:
            self.settlements.add(charge_id, charge.amounts)
        return outcome

    def _note(self, request: Request, inquiry: Inquiry, mta: str, verdict: Verdict) -> None:
        if inquiry.state == "RCPT" and verdict.found is None and verdict.principal is not None:
            self._transactions.add(mta, request.instance, request.recipient, inquiry.connection)

    def abandon(self, mta: str, request: Request) -> None:
        """The transaction of `request` is over: what it reserved and did not settle is given back."""
        self._transactions.forget(mta, request.instance)
        abandoned = charge_id(request, mta)
        if self._reservations.drop(abandoned) is not None and abandoned not in self.settlements:
            self.settlements.release(abandoned, self._given_back)

    def _given_back(self, was_there: bool) -> None:
        self._released += was_there
        now = self._clock()
        if self.ended or self._released < _RELEASES_UNSETTLED or now - self._warned < _HOUR:
            return
        self._warned = now
        self._log.warning(
            "stage",
            reason="END-OF-MESSAGE never arrives: every reservation is given back and limits do not hold",
            advice="add check_policy_service to smtpd_end_of_data_restrictions, or set policy.charge: rcpt",
        )

    def _facts(self, request: Request, inquiry: Inquiry, mta: str, found: Found) -> Facts:
        now = self._clock()
        recipients, judged = 1, False
        scopes, standings = self._spending(found, request, now)
        if inquiry.state == "RCPT":
            recipients = self._transactions.count(
                mta, request.instance, request.recipient, inquiry.connection
            )
        elif inquiry.state:
            recipients = self._transactions.size(mta, request.instance)
        if inquiry.state == "END-OF-MESSAGE":
            judged = self._reservations.get(charge_id(request, mta)) is True
        return Facts(now, mta, found, self.blocks, recipients, standings, judged, scopes)

    def _spending(self, found: Found, request: Request, now: float) -> Spending:
        """Everybody whose limits a request counts for, and what is known of these."""
        if not isinstance(found, Principal):
            return (), ()
        scopes = self._scoping.of(found, request.client_address, self.rules, self.grants, now)
        return scopes, tuple(s for scope in scopes for s in self._standings.of(scope.subject, now))
