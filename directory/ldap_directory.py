"""A directory.identity.Directory that is LDAP: look-ups through a cache, passwords by binding as the login.

Knows which question takes which way, and that nothing but a verdict of the server is a no. Must not know how
a connection is made, nor what an entry looks like.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred, succeed

from directory.binds import Binds
from directory.bindwire import BindResult
from directory.cache import CachedDirectory, CacheSettings
from directory.drafts import Reading
from directory.hosts import Background
from directory.identity import (
    BadLogin,
    Certificate,
    Credentials,
    Denied,
    Login,
    Mistaken,
    Network,
    Principal,
    Question,
    Reason,
    Unavailable,
    Verified,
    normal_login,
)
from directory.ldap import Session
from directory.ldap_settings import LdapSettings
from directory.lookups import LOOK_UP, Lookups
from directory.passwords import is_acceptable
from directory.people import Person
from directory.results import judge
from directory.searches import Searches
from directory.sessions import Sessions

CHECK = 6.5  # seconds for a look-up and a bind together; saslauthd answers within 7
#: What a server says of a name under which nothing is any more.
_WHEN_MOVED = ("wrong_password", "unknown_login")
BIND_PATIENCE = 3  # seconds for the answer to a bind: hashes cost time


class Checker(Protocol):
    """Binds as somebody, on connections that nothing else uses."""

    def check(self, dn: str, password: bytes, deadline: float) -> Deferred[BindResult]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class ThreadChecker:
    """A Checker that uses ldap3 in threads."""

    def __init__(self, settings: LdapSettings, *, reactor: Any, log: Any) -> None:
        self._sessions = Sessions(
            settings.open_servers(),
            [server.weight for server in settings.servers],
            lambda session: None,
            size=settings.connections,
            retry=False,
            patience=BIND_PATIENCE,
            reactor=reactor,
            log=log,
            name="ldap-binds",
        )
        self.start = self._sessions.start
        self.stop = self._sessions.stop

    def check(self, dn: str, password: bytes, deadline: float) -> Deferred[BindResult]:
        """The server's answer; never asked twice. Fails with Unavailable."""

        def errand(session: Session) -> BindResult:
            return session.bind(dn, password, policy=True)

        return self._sessions.run(errand, deadline)


def own_checker(settings: LdapSettings, *, reactor: Any, log: Any) -> Binds:
    """A Checker that speaks the simple bind itself."""
    weights = [server.weight for server in settings.servers]
    return Binds(settings.open_servers(), weights, size=settings.connections, reactor=reactor, log=log)


class LdapDirectory:
    """The directory that the section ``directory.ldap`` names."""

    def __init__(
        self,
        settings: LdapSettings,
        reading: Reading,
        times: CacheSettings,
        *,
        reactor: Any,
        log: Any,
        checker: Checker | None = None,
        owning: bool = True,
        groups: bool = False,
    ) -> None:
        """Without `owning` nobody may ask what a principal owns, and look-ups cost less; with `groups` every
        principal knows its own."""
        self._searches = Searches(settings, reading, owning=owning, groups=groups)
        self._reactor = reactor
        self._log = log
        self._lookups = Lookups(settings, self._searches, times, reactor=reactor, log=log)
        self._people = CachedDirectory(
            self._lookups, times, reactor=reactor, log=log, is_away=self._lookups.is_away
        )
        self._checker = checker or own_checker(settings, reactor=reactor, log=log)

    def start(self) -> None:
        """Allow questions; connects when one comes."""
        self._people.start()
        self._checker.start()

    def stop(self) -> None:
        """Hang up on all servers."""
        self._people.stop()
        self._checker.stop()

    def state(self) -> str:
        """``ok``, ``stale`` (old answers bridge an outage) or ``unavailable``."""
        return self._people.state()

    def flush(self, login: str = "") -> int:
        """Forget a login, or all of them; returns how many answers there were."""
        return self._people.flush(login)

    def look_up(self, question: Question) -> Principal | Deferred[Principal | None] | None:
        """The principal, at once when the cache has it; fails with (or raises) Unavailable."""
        if isinstance(question, Login):
            found = self._people.look_up(question)
            return found.addCallback(_owner) if isinstance(found, Deferred) else _owner(found)
        background = self._lookups.known_background
        if background is not None:
            return self._host(background, question)
        return self._lookups.background().addCallback(self._host, question)

    def _host(self, background: Background, question: Certificate | Network) -> Principal | None:
        if isinstance(question, Certificate):
            listed = background.roll.certificates
            hosts = {listed[one].name for one in question.fingerprints if one in listed}
            if len(hosts) > 1:
                problem = f"a certificate and its key stand at more than one host: {', '.join(sorted(hosts))}"
                self._log.error("directory_puzzle", problem=problem)
                raise Mistaken(problem)
        return _host(background, question)

    def principals(self) -> Deferred[tuple[Principal, ...]]:
        """Every host, read now: what Postfix's tables are made of. Logins are not listed."""
        reading = self._lookups.background(anew=True)
        return reading.addCallback(_hosts)

    def verify(self, credentials: Credentials) -> Deferred[Verified | Denied]:
        """Judge a credential by a bind; fails with Unavailable, at the latest after CHECK seconds."""
        if not is_acceptable(credentials.password):  # empty, or what no directory holds: not even asked
            return succeed(Denied("wrong_password"))
        try:
            login = normal_login(credentials.login)
        except BadLogin:
            return succeed(Denied("unknown_login"))
        return ensureDeferred(self._verify(login, credentials.password, self._reactor.seconds() + CHECK))

    async def _verify(self, login: str, password: bytes, until: float) -> Verified | Denied:
        dn = self._searches.template_dn(login)
        if dn:
            reason = judge(await self._bind(dn, password, until))
            if reason is not None:
                return Denied(reason)
        found = self._people.look_up(Login(login))
        is_old = not isinstance(found, Deferred)
        person = await _person(found)
        if person is None:
            return Denied("unknown_login")
        if not dn:
            reason = judge(await self._bind(person.dn, password, until))
            if reason in _WHEN_MOVED and is_old:
                person, reason = await self._elsewhere(login, person, reason, password, until)
            if reason is not None:
                return Denied(reason)
        return Denied(person.stopped) if person.stopped is not None else Verified(person.name)

    async def _elsewhere(
        self, login: str, old: Person, reason: Reason | None, password: bytes, until: float
    ) -> tuple[Person, Reason | None]:
        """What is said where the entry is now: it may have been moved since it was looked up.

        The verdict stands for an entry that is where it was, and while nobody can say where it is.
        """
        self._people.doubt(login)
        if until - self._reactor.seconds() < LOOK_UP:
            return old, reason
        try:
            person = await _person(self._people.look_up(Login(login)))
        except Unavailable:
            return old, reason
        if person is None:
            return old, "unknown_login"
        if person.dn == old.dn:
            return person, reason
        return person, judge(await self._bind(person.dn, password, until))

    async def _bind(self, dn: str, password: bytes, until: float) -> BindResult:
        left = until - self._reactor.seconds()
        if left <= 0:
            raise Unavailable("looking the login up took all the time there was")
        return await self._checker.check(dn, password, left)


async def _person(found: Principal | Deferred[Principal | None] | None) -> Person | None:
    person = await found if isinstance(found, Deferred) else found
    assert person is None or isinstance(person, Person)
    return person


def _owner(found: Principal | None) -> Principal | None:
    if isinstance(found, Person) and found.puzzle:
        raise Unavailable(found.puzzle)
    return found


def _host(background: Background, question: Certificate | Network) -> Principal | None:
    found = background.roll.look_up(question)
    if background.twice and found is not None:
        names = {found.name, *(question.fingerprints if isinstance(question, Certificate) else ())}
        if names & background.twice:
            raise Unavailable(f"{found.name} stands at more than one host")
    return found


def _hosts(background: Background) -> tuple[Principal, ...]:
    if background.twice:
        raise Unavailable(f"{', '.join(sorted(background.twice))}: at more than one host")
    return background.roll.principals
