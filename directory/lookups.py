"""Look-ups in LDAP: people by their login, and the background, which is read again before it is too old.

Knows when to search and for how long an answer holds. Must not know passwords, nor what an entry looks like.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.python.failure import Failure

from directory.cache import BRIDGE, CacheSettings
from directory.hosts import Background
from directory.identity import (
    Credentials,
    Denied,
    Login,
    Mistaken,
    Principal,
    Question,
    Unavailable,
    Verified,
)
from directory.ldap import Session
from directory.ldap_settings import LdapSettings
from directory.once import bind_as_service
from directory.searches import Searches
from directory.sessions import Sessions
from directory.troubles import Ambiguous, Puzzling, Refused

LOOK_UP = 4.0  # seconds; policyd answers within 5
READ_ALL = 30.0  # seconds for the background, of which a question waits for LOOK_UP at most
AGAIN = 60.0  # seconds until the same complaint is told again


class Lookups:
    """The directory behind the cache: every look-up is a search."""

    def __init__(
        self, settings: LdapSettings, searches: Searches, times: CacheSettings, *, reactor: Any, log: Any
    ) -> None:
        self._settings = settings
        self._searches = searches
        self._times = times
        self._log = log
        self._reactor = reactor
        self._sessions = Sessions(
            settings.open_servers(),
            [server.weight for server in settings.servers],
            self._bind_as_service,
            size=settings.searches,
            retry=True,
            reactor=reactor,
            log=log,
            name="ldap-searches",
        )
        self._background: Background | None = None
        self._good_until = 0.0
        self._is_stale = False
        self._reading: list[Deferred[Background]] = []
        self._told: tuple[str, ...] = ()
        self._why = ""  # the last reading failed with this
        self._why_again = 0.0
        self._call: Any = None

    def start(self) -> None:
        """Allow searches."""
        self._sessions.start()
        self._tick()

    def _tick(self) -> None:
        """Read the background before it is too old, so that nobody waits for it."""
        self._call = self._reactor.callLater(max(1.0, self._times.ttl / 2), self._tick)
        self.background(anew=True).addErrback(lambda _: None)  # _bridge or the breaker has logged it

    def stop(self) -> None:
        """Hang up."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._sessions.stop()

    def state(self) -> str:
        """``ok``, ``stale`` (old hosts bridge an outage) or ``unavailable``, so at first too."""
        if self._background is None or (self._why and not self._may_bridge()):
            return "unavailable"
        if self._is_stale:
            return "stale"
        return "unavailable" if self._sessions.is_down else "ok"

    def flush(self, login: str = "") -> int:
        """Nothing: it is the cache that remembers people."""
        return 0

    def verify(self, credentials: Credentials) -> Awaitable[Verified | Denied]:
        """Not here: see LdapDirectory."""
        raise NotImplementedError

    def principals(self) -> Awaitable[tuple[Principal, ...]]:
        """Not here: see LdapDirectory."""
        raise NotImplementedError

    def look_up(self, question: Question) -> Deferred[Principal | None]:
        """The person behind a login; fails with Unavailable."""
        assert isinstance(question, Login)
        return ensureDeferred(self._look_up(question.name))

    async def _look_up(self, login: str) -> Principal | None:
        until = self._reactor.seconds() + LOOK_UP
        background = await self.background()
        left = max(0.1, until - self._reactor.seconds())
        try:
            found = await self._sessions.run(
                lambda session: self._searches.find_person(session, login, background), left
            )
        except (Puzzling, Ambiguous) as wrong:
            self._log.error("directory_puzzle", login=login, problem=str(wrong))
            raise Mistaken(f"the directory's entry for {login} is wrong: {wrong}") from None
        for note in found.notes if found is not None else ():
            self._log.warning("directory_value_ignored", login=login, problem=note)
        return found

    def background(self, *, anew: bool = False) -> Deferred[Background]:
        """Aliases and hosts, at most `ttl` old, or an older reading in an outage; fails with Unavailable."""
        now = self._reactor.seconds()
        if self._background is not None and now < self._good_until and not anew:
            return succeed(self._background)
        waiting: Deferred[Background] = Deferred()
        self._reading.append(waiting)
        if len(self._reading) == 1:
            self._read_background()
        if anew:
            return waiting
        patience = LOOK_UP if not self._may_bridge() else 0 if self.is_away() else BRIDGE
        return waiting.addTimeout(patience, self._reactor, self._late)

    def _late(self, *_: object) -> Background:
        """What a question makes do with."""
        if self._background is None or not self._may_bridge():
            raise Unavailable(f"hosts and domain aliases were not read within {LOOK_UP:g} s")
        return self._background

    def is_away(self) -> bool:
        """Whether no server answered when it was asked last."""
        return self._sessions.is_down

    @property
    def known_background(self) -> Background | None:
        """What was read last, if it still holds."""
        return self._background if self._reactor.seconds() < self._good_until else None

    def _read_background(self) -> None:
        if not self._searches.has_background:
            reading: Deferred[Background] = succeed(self._searches.static_background())
        else:
            reading = self._sessions.run(self._searches.read_background, READ_ALL)
        reading.addCallbacks(self._keep, self._bridge)
        reading.addBoth(self._tell)

    def _keep(self, background: Background) -> Background:
        self._background = background
        self._good_until = self._reactor.seconds() + self._times.ttl
        self._why = ""
        self._set_stale(False)
        if background.notes != self._told:
            self._told = background.notes
            for note in background.notes:
                self._log.error("directory_puzzle", problem=note)
        return background

    def _bridge(self, failure: Failure) -> Background:
        why = f"hosts and domain aliases cannot be read: {failure.getErrorMessage()}"
        self._complain(failure, why)
        self._why = why
        if self._background is None or not self._may_bridge():
            raise _unavailable(failure)
        self._set_stale(self._reactor.seconds() >= self._good_until, why)
        return self._background

    def _may_bridge(self) -> bool:
        """Whether the last reading, however old, may still serve."""
        return self._background is not None and (
            self._reactor.seconds() <= self._good_until + self._times.stale
        )

    def _complain(self, failure: Failure, why: str) -> None:
        """Log why nothing is read, once a minute or when it changes; the breaker logs servers that fail."""
        wrong = failure.value
        if isinstance(wrong, Unavailable) and (self._sessions.is_down or not isinstance(wrong, Refused)):
            return
        now = self._reactor.seconds()
        if why != self._why or now >= self._why_again:
            self._why_again = now + AGAIN
            self._log.error("directory_puzzle", problem=why)

    def _set_stale(self, stale: bool, why: str = "") -> None:
        if stale and not self._is_stale:
            longest = f"{self._times.stale:g} s"
            self._log.warning("directory_stale", what="hosts", longest=longest, problem=why)
        elif self._is_stale and not stale:
            self._log.notice("directory_fresh", what="hosts")
        self._is_stale = stale

    def _tell(self, result: Background | Failure) -> None:
        waiting, self._reading = self._reading, []
        for one in waiting:
            if not one.called:
                one.callback(result)

    def _bind_as_service(self, session: Session) -> None:
        if self._settings.password is not None:
            bind_as_service(session, self._settings.bind_dn, self._settings.password.reveal())


def _unavailable(failure: Failure) -> Unavailable:
    """What a failed errand means: never a refusal."""
    if isinstance(failure.value, Unavailable):
        return failure.value
    return Unavailable(f"{type(failure.value).__name__}: {failure.getErrorMessage()[:200]}")
