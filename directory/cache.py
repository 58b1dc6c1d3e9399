"""A cache before a directory that answers later: asks once for many, and bridges an outage for a stated time.

Knows how long an answer holds and who is waiting for the same one. Must not know what a principal owns, and
never keeps a password.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from directory.identity import (
    Credentials,
    Denied,
    Directory,
    Login,
    Mistaken,
    Principal,
    Question,
    Unavailable,
    Verified,
)
from sidecar.settings import duration

BRIDGE = 2.0  # seconds after which an older answer serves: servers that are well answer sooner


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The section ``directory.cache``, all in seconds but `entries`."""

    ttl: float = field(
        default=60.0, metadata={"parse": duration, "help": "how long a principal is remembered"}
    )
    negative_ttl: float = field(
        default=10.0, metadata={"parse": duration, "help": "how long an absent principal is remembered"}
    )
    stale: float = field(
        default=3600.0,
        metadata={
            "parse": duration,
            "help": "how long after that it still serves in an outage",
        },
    )
    entries: int = field(default=10_000, metadata={"help": "how many answers are remembered"})

    def __post_init__(self) -> None:
        if self.entries < 1:
            raise ValueError("entries is 1 or more")


#: Who waits for one and the same answer.
_Flight = list[Deferred[Principal | None]]


@dataclass(slots=True)
class _Answer:
    principal: Principal | None
    fresh_until: float
    stale_until: float


class _Answers:
    """At most `most` principals and `most` answers that there is none; the longest unused goes first.

    They are bounded apart, since every stranger who connects leaves a "none" behind.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._somebody: OrderedDict[Question, _Answer] = OrderedDict()
        self._nobody: OrderedDict[Question, _Answer] = OrderedDict()

    def get(self, question: Question) -> _Answer | None:
        for answers in (self._somebody, self._nobody):
            if question in answers:
                answers.move_to_end(question)
                return answers[question]
        return None

    def keep(self, question: Question, answer: _Answer) -> None:
        self.drop(question)
        answers = self._nobody if answer.principal is None else self._somebody
        answers[question] = answer
        if len(answers) > self._most:
            answers.popitem(last=False)

    def drop(self, question: Question) -> bool:
        found = self._somebody.pop(question, None) or self._nobody.pop(question, None)
        return found is not None

    def drop_login(self, login: str) -> int:
        """Drop a login, under whatever name it was asked for."""
        named = [q for q, a in self._somebody.items() if isinstance(q, Login) and _is(a.principal, login)]
        return sum(self.drop(question) for question in {Login(login), *named})

    def clear(self) -> int:
        count = len(self._somebody) + len(self._nobody)
        self._somebody.clear()
        self._nobody.clear()
        return count


def _is(principal: Principal | None, login: str) -> bool:
    return principal is not None and principal.kind == "login" and principal.name == login


class CachedDirectory:
    """A directory.identity.Directory that remembers what another one answered."""

    def __init__(
        self,
        inner: Directory,
        settings: CacheSettings,
        *,
        reactor: Any,
        log: Any = None,
        is_away: Callable[[], bool] = lambda: False,
    ) -> None:
        """While the directory `is_away` nobody waits for it whom an older answer may serve."""
        self._log = log
        self._is_away = is_away
        self._inner = inner
        self._settings = settings
        self._reactor = reactor
        self._answers = _Answers(settings.entries)
        self._flights: dict[Question, _Flight] = {}
        self._stale = False

    def look_up(self, question: Question) -> Principal | Deferred[Principal | None] | None:
        """The principal at once while the answer holds, else when the directory has answered.

        Fails with Unavailable when the directory is, unless an older answer may still serve.
        """
        answer, now = self._answers.get(question), self._reactor.seconds()
        if answer is not None and now < answer.fresh_until:
            return answer.principal
        waiting = self._join(question)
        if answer is None or now >= answer.stale_until:
            return waiting
        if self._is_away():
            waiting.addErrback(lambda _: None)  # asked behind, for the next one
            self._set_stale(True)
            return answer.principal
        return waiting.addTimeout(BRIDGE, self._reactor, lambda *_: answer.principal)

    def verify(self, credentials: Credentials) -> Awaitable[Verified | Denied]:
        """What the directory says, each time."""
        return self._inner.verify(credentials)

    def principals(self) -> Awaitable[tuple[Principal, ...]]:
        """What the directory says, each time."""
        return self._inner.principals()

    def flush(self, login: str = "") -> int:
        """Forget a login (in normal form), or everything; returns how many answers there were."""
        # What is on its way was asked for before: it is neither kept nor given to whoever asks from now on.
        self._flights.clear()
        if not login:
            return self._answers.clear()
        return self._answers.drop_login(login)

    def doubt(self, login: str) -> None:
        """Ask anew for one login, whoever else is being asked for; what is known still bridges an outage."""
        self._flights.pop(Login(login), None)
        answer = self._answers.get(Login(login))
        if answer is not None:
            answer.fresh_until = self._reactor.seconds()

    def start(self) -> None:
        """Start the directory."""
        self._inner.start()

    def stop(self) -> None:
        """Stop the directory and forget what it said."""
        self._inner.stop()
        self._answers.clear()

    def state(self) -> str:
        """``stale`` while old answers bridge an outage, else what the directory says."""
        return "stale" if self._stale else self._inner.state()

    def _join(self, question: Question) -> Deferred[Principal | None]:
        waiting: Deferred[Principal | None] = Deferred()
        flight = self._flights.get(question)
        if flight is not None:
            flight.append(waiting)
            return waiting
        flight = self._flights[question] = [waiting]
        asked = ensureDeferred(self._ask(question, flight))
        asked.addBoth(self._land, question, flight)
        return waiting

    async def _ask(self, question: Question, flight: _Flight) -> Principal | None:
        try:
            result = self._inner.look_up(question)
            principal = await result if isinstance(result, Awaitable) else result
        except Mistaken:
            if self._flights.get(question) is flight:
                self._answers.drop(question)
            raise
        except Unavailable:
            answer = self._answers.get(question)
            if answer is None or self._reactor.seconds() >= answer.stale_until:
                raise
            self._set_stale(True)
            return answer.principal
        self._set_stale(False)
        if self._flights.get(question) is flight:
            self._keep(question, principal)
        return principal

    def _set_stale(self, stale: bool) -> None:
        if self._log is not None and stale != self._stale:
            if stale:
                self._log.warning("directory_stale", what="logins", longest=f"{self._settings.stale:g} s")
            else:
                self._log.notice("directory_fresh", what="logins")
        self._stale = stale

    def _keep(self, question: Question, principal: Principal | None) -> None:
        times, now = self._settings, self._reactor.seconds()
        if principal is None:
            # No bridge for nobody: a login made during an outage would stay unknown for all of it.
            self._answers.keep(question, _Answer(None, now + times.negative_ttl, now + times.negative_ttl))
        else:
            fresh = now + times.ttl
            self._answers.keep(question, _Answer(principal, fresh, fresh + times.stale))

    def _land(self, result: Principal | Failure | None, question: Question, flight: _Flight) -> None:
        if self._flights.get(question) is flight:
            del self._flights[question]
        for waiting in flight:
            if waiting.called:  # given up by who asked
                continue
            if isinstance(result, Failure):
                waiting.errback(result)
            else:
                waiting.callback(result)
