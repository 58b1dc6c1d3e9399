"""One credential from question to outcome: memory, guard, app password or directory, and who may come in.

Knows in which order they are asked, what is shared by those who ask the same at once, and how long a refusal
is put off. Must not know the protocol, nor how any of them finds its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import ensureDeferred

from directory.identity import (
    Credentials,
    Denied,
    Directory,
    Login,
    Principal,
    Unanswered,
    Unavailable,
    Verified,
    split_credential,
)
from ledger.app_passwords import parse_app_password
from ledger.blocks import Blocklist
from saslauthd import guard
from saslauthd.admissions import Admissions
from saslauthd.answers import GUESSES, Found, Request
from saslauthd.app_passwords import AppPasswords
from saslauthd.guard import Case
from saslauthd.mechanisms import Refused
from saslauthd.recollection import Recollection, Right, Wrong
from saslauthd.sentry import Sentry
from saslauthd.sharing import Sharing
from saslauthd.sleepers import Sleepers


class Judge:
    """Judges credentials. `directory`, `admissions` and `blocks` may be exchanged at any time."""

    def __init__(
        self,
        directory: Directory,
        sentry: Sentry,
        recollection: Recollection,
        app_passwords: AppPasswords,
        *,
        reactor: Any,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self.sentry = sentry
        self.recollection = recollection
        self.app_passwords = app_passwords
        self.admissions = Admissions()
        self.blocks: Blocklist | None = None
        self._reactor = reactor
        self._clock = clock
        self._sharing: Sharing[Found] = Sharing()
        self._sleepers = Sleepers(reactor)

    def recall(self, credentials: Credentials, request: Request) -> Verified | None:
        """Yes, in this very call, to a credential that is remembered as right and whose login may come in.

        None when anything has to be asked or put off: then `judge` is to be asked. May raise Unavailable.
        """
        if not self.recollection.right_for:
            return None
        remembered = self.recollection.look(self.recollection.digest(credentials), self._reactor.seconds())
        if not isinstance(remembered, Right):
            return None
        name = split_credential(remembered.verified.login)[0]
        principal, request.memory = self._at_hand(name), "right"
        if principal is None or self._objection(principal, credentials.login, request):
            request.memory = ""
            return None
        self._welcome(name, credentials.login, request)
        return remembered.verified

    async def judge(self, credentials: Credentials, request: Request) -> Verified | Refused:
        """The outcome. Raises Unavailable, also while the blocks have never been read.

        Networks and blocks are looked at last, so that neither can be learned without the password, and anew
        for what is remembered. All refusals look alike and take alike.
        """
        self._known_blocks()
        digest = self.recollection.digest(credentials)
        remembered = self.recollection.look(digest, self._reactor.seconds())
        if isinstance(remembered, Wrong):
            request.memory = "wrong"
            found = Found(Refused(remembered.reason, credentials.login), remembered.delay)
        elif isinstance(remembered, Right):
            request.memory = "right"
            found = Found(remembered.verified, 0.0)
        else:
            place = guard.network_of(request.rip, self.sentry.rules).encode()
            if parse_app_password(credentials.password) is not None:
                place = request.rip  # its own networks may be narrower
            found = await self._sharing.ask(digest + place, lambda: self._ask(credentials, request, digest))
        outcome = found.outcome
        if isinstance(outcome, Verified):
            outcome = await self._let_in(outcome, credentials.login, request)
        if isinstance(outcome, Refused):
            await self._put_off(request, found.delay)
        return outcome

    def forget(self) -> None:
        """Remember nothing of what was judged or is being judged now, and have nobody join in with it."""
        self.recollection.clear()
        self._sharing = Sharing()

    def wake(self) -> None:
        """Tell all refusals that are put off: the process is ending."""
        self._sleepers.wake()

    async def _ask(self, credentials: Credentials, request: Request, digest: bytes) -> Found:
        began = self._reactor.seconds()
        at_once = self._is_plain(credentials, request)
        era = self.recollection.era
        case = await self.sentry.approach(credentials, request.rip, at_once=at_once)
        case.era = era
        try:
            return await self._ask_about(case, credentials, request, digest, began)
        finally:
            self.sentry.abandon(case)

    async def _ask_about(
        self, case: Case, credentials: Credentials, request: Request, digest: bytes, began: float
    ) -> Found:
        principal = await self._principal(credentials.login)
        name = principal.name if principal is not None else credentials.login
        await self.sentry.recognize(case, credentials, name)
        asked = self._reactor.seconds()
        request.note("guard", asked - began)
        given = parse_app_password(credentials.password)
        if given is not None:
            outcome = await self.app_passwords.judge(name, principal, given, request.rip)
        elif self.admissions.needs_app_password(name, principal):
            await self.sentry.pretend(case)
            outcome = Refused("app_password_only", name)
        else:
            outcome = await self._directory_says(case, credentials, digest, name)
        request.note("verify", self._reactor.seconds() - asked)
        put_off = guard.delay(case.sight, self.sentry.rules)
        if isinstance(outcome, Refused):
            if outcome.reason in GUESSES:
                request.memory = "repeated" if case.sight.repeated else ""
                await self.sentry.failed(case, surely=outcome.reason == "wrong_password")
                now = self._reactor.seconds()
                self.recollection.refused(name, digest, outcome.reason, put_off, now, case.era)
            else:
                self.recollection.forget(name)
        return Found(outcome, put_off)

    def _is_plain(self, credentials: Credentials, request: Request) -> bool:
        """Whether nothing but the directory can judge this; who it is and where it comes from is known."""
        login = credentials.login
        if not self.sentry.knows(login, request.rip) or parse_app_password(credentials.password) is not None:
            return False
        principal = self._at_hand(login)
        if principal is None or principal.name != login:
            return False
        return not self.admissions.needs_app_password(login, principal)

    def _at_hand(self, name: str) -> Principal | None:
        """The principal if it is known in this very call; else somebody is being asked."""
        found: Any = self.directory.look_up(Login(name))
        if found is None or isinstance(found, Principal):
            return found
        ensureDeferred(found).addErrback(lambda failure: None)  # who needs it asks again, and joins in
        return None

    async def _directory_says(
        self, case: Case, credentials: Credentials, digest: bytes, name: str
    ) -> Verified | Refused:
        """What it says, a ticket having been taken: that is kept unless the password was right, or surely did
        not reach the directory."""
        await self.sentry.admit(case)
        try:
            answer = await self.directory.verify(credentials)
        except Unanswered:
            raise
        except Unavailable:
            self.sentry.give_back(case)
            raise
        finally:
            self.sentry.leave(case)
        if isinstance(answer, Denied):
            return Refused(answer.reason, credentials.login)
        if not isinstance(answer, Verified):
            raise TypeError("a directory says Verified or Denied")
        self.sentry.succeeded(case)
        self.recollection.accepted(name, digest, answer, self._reactor.seconds(), case.era)
        return answer

    async def _let_in(self, verified: Verified, typed: str, request: Request) -> Verified | Refused:
        """The credential is right; whether this login may come in, from there, now."""
        name = split_credential(verified.login)[0]
        principal = await self._principal(name)
        reason = ""
        if principal is None:
            if not request.memory:
                raise Unavailable("verified and not listed: the directory is changing")
            reason = "unknown_login"
        else:
            reason = self._objection(principal, typed, request)
        if reason:
            self.recollection.forget(name)
            return Refused(reason, name)
        self._welcome(name, typed, request)
        return verified

    def _objection(self, principal: Principal, typed: str, request: Request) -> str:
        """Why this login may not come in, from there, now; ``""`` when it may."""
        if principal.disabled:
            return "disabled"
        if request.memory == "right" and self.admissions.needs_app_password(principal.name, principal):
            return "app_password_only"  # only the directory's passwords are remembered
        if not self.admissions.may_come_from(principal, request.rip):
            return "network_refused"
        subjects = (f"login:{principal.name}", f"login:{typed}", f"domain:{principal.domain}", "relay")
        return "blocked" if self._is_blocked(*subjects) else ""

    def _welcome(self, name: str, typed: str, request: Request) -> None:
        network = guard.network_of(request.rip, self.sentry.rules)
        for one in {name, typed}:
            self.sentry.welcome(one, network)

    async def _principal(self, name: str) -> Principal | None:
        found = self.directory.look_up(Login(name))
        return found if found is None or isinstance(found, Principal) else await found

    async def _put_off(self, request: Request, delay: float) -> None:
        """Wait until the refusal is due, counted from when the request began to be verified."""
        elapsed = self._reactor.seconds() - request.asked_at
        wait = guard.due(delay, elapsed, self.sentry.rules)
        if wait > 0 and await self._sleepers.sleep(wait):
            request.note("delay", wait)

    def _is_blocked(self, *subjects: str) -> bool:
        return self._known_blocks().find(subjects, self._clock(), extents=("login",)) is not None

    def _known_blocks(self) -> Blocklist:
        if self.blocks is None:
            raise Unavailable("the ledger's blocks have not been read yet")
        return self.blocks
