"""One message from its complete header to the verdict: asks the ledger who submits, the directory who that
is.

Knows when which store is asked, the deadline, and that a message which is not taken costs nothing. Must not
know the wire's stages or connections. Whatever cannot be known in time, or fails in a way nobody thought
of, is temporary.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from secrets import token_hex
from time import time
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from directory.identity import Address, Directory, Login, Principal
from directory.identity import Unavailable as DirectoryUnavailable
from directory.ownership import narrow
from ledger.app_passwords import senders_of
from ledger.charges import Ledger
from ledger.charges import Unavailable as LedgerUnavailable
from milter import replies
from milter.judgement import Verdict, decide, defer, let_through, overrule, refuse
from milter.keys import Keys
from milter.probe import NoAnswer
from milter.questions import Rules, Signing
from milter.refunds import WAIT, Refund, Refunds
from milter.session import Message
from milter.signer import Signer
from milter.submitter import Claim, Doubt, Inquiry, Nobody, agreed, by_macros, by_record, claim, payer
from milter.tables import Tables
from milter.wire import encode_reply

DEADLINE = 10.0  # seconds from the end of headers to our answer, the wait for a refund included

_twisted = Logger()


@dataclass(slots=True)
class Case:
    """One message on its way through: what is known of it so far."""

    message: Message
    claimed: Claim
    mta: str
    incident: str
    subject: str = ""  # who was charged
    refund: Refund | None = None
    began: float | None = None  # when its connection did, None: unknown


class Judge:
    """Judges by `rules`, which may be exchanged at any time, as may the stores. `keys` None: not checked."""

    def __init__(
        self,
        rules: Rules,
        directory: Directory,
        ledger: Ledger,
        keys: Keys | None,
        *,
        reactor: Any,
        log: Any,
    ) -> None:
        self.rules = rules
        self.directory = directory
        self.keys = keys
        self.signer: Signer | None = None
        self.refunds = Refunds(ledger, reactor=reactor, log=log)
        self._reactor = reactor

    @property
    def ledger(self) -> Ledger:
        """The ledger; exchanged for the refunds too."""
        return self.refunds.ledger

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        self.refunds.ledger = ledger

    def judge(self, message: Message, mta: str, began: float | None = None) -> Deferred[tuple[Case, Verdict]]:
        """The verdict, within the deadline. The Deferred never fails; it has fired if nothing had to wait.

        `began`: when the connection did, by the reactor's clock.
        """
        claimed = claim(message)
        case = Case(message, claimed, mta, token_hex(4), payer(claimed), began=began)
        rules = self.rules
        found = Deferred.fromCoroutine(self._find(case, rules))
        if not found.called:
            found.addTimeout(DEADLINE - WAIT, self._reactor)
        found.addErrback(self._cannot_know, case)
        return found.addCallback(lambda verdict: Deferred.fromCoroutine(self._settle(case, verdict, rules)))

    def overrule(self, case: Case, verdict: Verdict) -> Deferred[tuple[Case, Verdict]]:
        """The body has a line that is too long: the verdict on a message that had passed. Never fails."""
        other = overrule(verdict, case.incident)
        settled = Deferred.fromCoroutine(self._settle(case, other, self.rules))
        return settled.addErrback(lambda failure: (case, self._cannot_know(failure, case)))

    def take_up(self, message: Message, mta: str) -> Deferred[None]:
        """Tell the ledger that a message got here which passes unjudged, so that it stays charged when a
        milter starts. Waits a second at most. The Deferred never fails; it has fired if there is no need."""
        queue_id = claim(message).queue_id
        if not queue_id or not self.rules.by_record:
            return succeed(None)
        taking = Deferred.fromCoroutine(_ask(self.ledger.take_up(mta, queue_id)))
        if not taking.called:
            taking.addTimeout(WAIT, self._reactor)
        return taking.addErrback(_pass_all_the_same)

    async def _find(self, case: Case, rules: Rules) -> Verdict:
        try:
            inquiry = await self._inquire(case, rules)
            principal = agreed(inquiry, await self._look_up(inquiry))
        except Nobody:
            return refuse("no_principal", replies.no_principal(rules.contact, case.incident))
        case.subject = principal.subject
        tables = await self._tables(case.began)
        verdict = decide(case.message, principal, rules, tables, case.incident)
        if verdict.outcome == "pass" and self.signer is not None and isinstance(tables, Tables):
            verdict = await self._confirm(verdict, tables, self.signer, case)
        if verdict.outcome == "pass" and rules.by_record and rules.mode == "enforce":
            # Not before: until it passes, a message that dies with this process is given back.
            by_record(case.claimed, await self.ledger.take_up(case.mta, case.claimed.queue_id))
        return verdict

    async def _confirm(self, verdict: Verdict, tables: Tables, signer: Signer, case: Case) -> Verdict:
        """A verdict that stands if the signer has read its tables: what is not in them it relays unsigned."""
        name, domain = tables.key_name(verdict.author), tables.signing_domain(verdict.author)
        assert name is not None
        assert domain is not None
        assert self.keys is not None
        selector = tables.keys[name].selector
        try:
            if await signer.signs(verdict.author, domain, selector, self.keys.version):
                return verdict
        except NoAnswer as silent:
            return defer("signer_unavailable", case.incident, str(silent))
        line = replies.new_key(domain, case.incident)
        detail = f"OpenDKIM does not sign for {domain} with {selector}: is a reload missing?"
        return Verdict("defer", "key_unread", encode_reply(line), verdict.author, detail)

    async def _tables(self, began: float | None) -> Signing:
        keys = self.keys
        if keys is None:
            return None
        looking = keys.refresh(self._reactor)
        if looking is not None:
            await looking
        tables = keys.tables
        if began is None or not isinstance(tables, Tables):
            return tables
        return replace(tables, before=keys.before(began))

    async def _inquire(self, case: Case, rules: Rules) -> Inquiry:
        if not rules.by_record:
            return by_macros(case.claimed)
        record = None
        if case.claimed.queue_id:
            look = self.ledger.record if rules.mode == "enforce" else self.ledger.take_up
            record = await look(case.mta, case.claimed.queue_id)
        inquiry = by_record(case.claimed, record)
        case.subject = inquiry.subject
        return inquiry

    async def _look_up(self, inquiry: Inquiry) -> Principal | None:
        question = inquiry.question
        found = self.directory.look_up(question)
        principal = await found if isinstance(found, Awaitable) else found
        if principal is None or not isinstance(question, Login) or not question.credential:
            return principal
        senders = senders_of(await self.ledger.app_passwords(principal.name), question.credential, time())
        return None if senders is None else narrow(principal, map(Address, senders), self.rules.addresses)

    def _cannot_know(self, failure: Failure, case: Case) -> Verdict:
        """Every failure ends here, foreseen or not, as a temporary one."""
        error = failure.value
        if isinstance(error, Doubt):
            return defer("submitter_unknown", case.incident, str(error))
        if isinstance(error, LedgerUnavailable):
            return defer("ledger_unavailable", case.incident, str(error))
        if isinstance(error, DirectoryUnavailable):
            return defer("directory_unavailable", case.incident, str(error))
        if isinstance(error, TimeoutError):
            return defer("deadline", case.incident, f"no answer from the stores in {DEADLINE - WAIT:.0f} s")
        _twisted.failure("a message could not be judged", failure)
        return defer("internal_error", case.incident, "see the traceback")

    async def _settle(self, case: Case, verdict: Verdict, rules: Rules) -> tuple[Case, Verdict]:
        """A message that is not taken costs nothing: a refused one, or one that will be sent again."""
        if rules.mode == "observe":
            verdict = let_through(verdict, case.message, rules)
        taken = verdict.outcome == "pass" or rules.mode != "enforce"
        if not taken and rules.by_record and case.claimed.queue_id and case.subject:
            case.refund = await self.refunds.give_back(case.mta, case.claimed.queue_id, case.subject)
        return case, verdict


async def _ask(awaitable: Awaitable[object]) -> None:
    await awaitable


def _pass_all_the_same(failure: Failure) -> None:
    if not failure.check(LedgerUnavailable, TimeoutError):  # type: ignore[no-untyped-call]
        _twisted.failure("a message could not be taken up", failure)
