"""The guard at work: marks asked for and noted in the ledger, and the tickets to the directory.

Knows in which order marks are looked at, taken and given back, and that a ledger that is away means "later".
Must not know how a credential is judged, nor what is too much (`guard`).
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from directory.identity import Credentials, Unavailable
from ledger.charges import Ledger
from ledger.charges import Unavailable as LedgerUnavailable
from saslauthd import guard
from saslauthd.guard import Case
from saslauthd.returns import Returns, insist

NOTED_FOR = 3600.0  # seconds for which a known network is not noted again
NOTED_MOST = 20_000
TURN = 0.1  # seconds between two tries to get in while others of the login are being judged
TURNS = 40
TURNS_KNOWN = 15  # for a known network, while those inside may be at another host


class Guarded(Unavailable):
    """The guard does not let the directory be asked. str() is for the log."""


class Sentry:
    """Asks `ledger` by `rules`, which may be exchanged at any time, as may `ledger`.

    `clock` gives epoch seconds, the same on all hosts within a second or two.
    """

    def __init__(
        self,
        rules: guard.Rules,
        ledger: Ledger,
        *,
        reactor: Any,
        log: Any,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rules = rules
        self._ledger = ledger
        self._key = b""
        self._reactor = reactor
        self._log = log
        self._clock = clock
        self._name, self._numbers = secrets.token_hex(6), count()
        self.returns = Returns(
            reactor,
            lambda pairs: self._tell(self._ledger.guard_drop(pairs)),
            lambda marks: self._tell(self._ledger.guard_note(marks)),
        )
        self._inside: Counter[str] = Counter()
        self._noted: OrderedDict[tuple[str, str], float] = OrderedDict()

    @property
    def ledger(self) -> Ledger:
        """Where marks are."""
        return self._ledger

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        self.returns.send()
        self._ledger, self._key = ledger, b""

    async def approach(self, credentials: Credentials, rip: bytes, *, at_once: bool = False) -> Case:
        """Look at an attempt before anybody is asked who the login is. Raises Guarded and Unavailable.

        `at_once` takes a ticket in the same trip, for an attempt that surely goes on to `admit` and whose
        network is known: nothing but the number of tickets can stop it.
        """
        network = guard.network_of(rip, self.rules)
        case = Case(guard.Trace(credentials.login, network, await self._fingerprint(credentials)))
        if not at_once:
            await self._look(case)
            return case
        taking = ensureDeferred(self._take(case, self.rules.binds))
        try:
            await self._look(case)
            await taking
        except BaseException:
            taking.addErrback(self._lost)
            self.give_back(case)
            raise
        return case

    def knows(self, login: str, rip: bytes) -> bool:
        """Whether this process has seen the login succeed from that network lately."""
        key = (login, guard.network_of(rip, self.rules))
        return bool(self._reactor.seconds() < self._noted.get(key, 0.0))

    async def recognize(self, case: Case, credentials: Credentials, name: str) -> None:
        """The login is that of the principal `name`, under which all its spellings count together."""
        if name != case.trace.login:
            own = Credentials(name, credentials.password)
            case.traces.append(case.trace._replace(login=name, fingerprint=await self._fingerprint(own)))
            await self._look(case)

    async def admit(self, case: Case) -> None:
        """Take a ticket to the directory. Raises Guarded when the login has no more.

        Those whose passwords are being judged right now may turn out to be right, and give theirs back: they
        are waited for.
        """
        self._check(case)
        login = case.trace.login
        most = guard.judge(case.sight, self.rules)
        assert isinstance(most, int)
        if case.ticket and most < self.rules.binds:
            self.give_back(case)
        for turn in range(TURNS):
            if case.ticket or await self._take(case, most):
                self._inside[login] += 1
                case.is_admitted = True
                return
            if not self._inside[login] and (turn >= TURNS_KNOWN or not case.sight.known):
                break
            await deferLater(self._reactor, TURN)
        raise Guarded("too many wrong passwords of this login have reached the directory")

    async def pretend(self, case: Case) -> None:
        """Be let in and leave, for a credential that nobody need be asked about: who guesses cannot tell it
        from one that is asked about. Raises Guarded."""
        await self.admit(case)
        self.leave(case)

    async def _take(self, case: Case, most: int) -> bool:
        """Take a ticket, unless `most` are taken. One that nobody waits for any more is given back."""
        self.returns.settle(case.trace.login)
        case.taken = self._clock()
        case.ticket = guard.ticket(case.taken, f"{self._name}{next(self._numbers)}")
        mark = guard.bind(case.trace.login, case.ticket, most)
        try:
            taken = await self._ask(self._ledger.guard_note((mark,)))
        except BaseException:
            self.give_back(case)
            raise
        if not taken:
            case.ticket = ""
        return bool(taken)

    def leave(self, case: Case) -> None:
        """The directory has answered, or never will; the ticket is kept until `give_back` or `abandon`."""
        login = case.trace.login
        self._inside[login] -= 1
        if self._inside[login] <= 0:
            del self._inside[login]

    def abandon(self, case: Case) -> None:
        """Nobody waits any more: a ticket that was not used is given back, and one that was counts."""
        if not case.is_admitted:
            self.give_back(case)
        elif case.ticket:
            spent = (guard.spent(case.trace.login, case.ticket, self.rules, surely=False),)
            self._tell(insist(lambda: self._ask(self._ledger.guard_note(spent)), self._reactor))
            case.ticket = ""

    def give_back(self, case: Case) -> None:
        """The password did not reach the directory, or was right: it counts no more."""
        if case.ticket:
            login = case.trace.login
            self.returns.drop(login, (guard.binds(login), case.ticket))
            case.ticket = ""

    def succeeded(self, case: Case) -> None:
        """The credential is right, and the directory has forgotten the login's failures where `binds_window`
        says so."""
        if not self.rules.binds_window:
            self._tell(self._forgive(case))
        self.give_back(case)

    async def _forgive(self, case: Case) -> None:
        key = guard.binds(case.trace.login)
        forgiven = guard.forgiven(await self._ledger.guard_names(key), case.taken)
        await self._ledger.guard_drop(tuple((key, ticket) for ticket in forgiven))

    def welcome(self, login: str, network: str) -> None:
        """The login has succeeded from this network."""
        now, key = self._reactor.seconds(), (login, network)
        if not network or now < self._noted.get(key, 0.0):
            return
        self._noted[key] = now + min(NOTED_FOR, self.rules.known / 2)
        if len(self._noted) > NOTED_MOST:
            self._noted.popitem(last=False)
        self.returns.note(login, guard.success([guard.Trace(login, network, "")], self.rules))

    async def failed(self, case: Case, *, surely: bool = True) -> None:
        """The credential is wrong, and that counts, as does the ticket if it was used. The directory does
        too, `surely` unless nobody has that login."""
        marks = guard.failure(case.traces, self.rules)
        used = case.is_admitted and case.ticket
        if used:
            marks += (guard.spent(case.trace.login, used, self.rules, surely=surely),)
        try:
            await self._ask(self._ledger.guard_note(marks))
            case.ticket = "" if used else case.ticket
        except Unavailable as away:  # the answer is known all the same
            self._log.warning("guard", problem=str(away))

    def forget(self) -> None:
        """Somebody has dropped marks: note known networks afresh."""
        self._noted.clear()

    async def _look(self, case: Case) -> None:
        self.returns.settle(case.trace.login)
        seen = await self._ask(self._ledger.guard_look(guard.questions(case.trace)))
        case.sight = guard.sight(seen)
        self._check(case)

    def _check(self, case: Case) -> None:
        stop = guard.judge(case.sight, self.rules)
        if isinstance(stop, guard.Stop):
            raise Guarded(stop.why)

    async def _fingerprint(self, credentials: Credentials) -> str:
        if not self._key:
            self._key = await self._ask(self._ledger.secret("guard"))
        return guard.fingerprint(self._key, credentials.login, credentials.password)

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except LedgerUnavailable as away:
            raise Unavailable(f"the ledger is away: {away}") from None

    def _tell(self, answer: Awaitable[Any]) -> None:
        """What need not be waited for."""
        told: Deferred[Any] = ensureDeferred(self._ask(answer))
        told.addErrback(self._lost)

    def _lost(self, failure: Failure) -> None:
        if not isinstance(failure.value, Unavailable):
            failure.raiseException()
        self._log.warning("guard", problem=failure.getErrorMessage())
