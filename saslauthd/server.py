"""One connection as Twisted sees it: bytes to the session, its events to the transport, deadlines.

Knows the transport, timers and deadlines. Must not know the protocol's rules, who judges a credential and
how, nor what an outcome's line in the log looks like.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from directory.identity import Credentials, Verified
from saslauthd import wire
from saslauthd.answers import Answer, Ask, Drop, Event, Request, Send
from saslauthd.mechanisms import Refused
from saslauthd.outlet import Outlet
from saslauthd.reports import Reports, blame
from saslauthd.session import HangUp, Rules, Session
from sidecar.deadlines import Deadlines

DEADLINE = 7.0  # seconds for a verdict; Postfix waits 10 for all of it
HALF_LINE_MAX = 10.0  # seconds between the first octet of a line and its end
LINGER = 5.0  # seconds for a peer to take our last words

#: Gives the outcome for the credentials of a request, or fails with Unavailable.
Judge = Callable[[Credentials, Request], Coroutine[Any, Any, Verified | Refused]]
#: Gives it in the same call when nobody has to be asked, else None.
Recall = Callable[[Credentials, Request], Verified | None]


class AuthFactory(Factory):
    """What the connections of one listener share. `reactor` tells the time and keeps timers."""

    noisy = False

    def __init__(
        self, reactor: Any, judge: Judge, rules: Rules, reports: Reports, recall: Recall | None = None
    ) -> None:
        self.reactor = reactor
        self.judge = judge
        self.recall: Recall = recall or (lambda credentials, request: None)
        self.deadlines = Deadlines(reactor, DEADLINE)
        self.reports = reports
        self.connections: set[AuthProtocol] = set()
        self._rules = rules
        self._numbers = itertools.count(1)

    @property
    def rules(self) -> Rules:
        """What new connections are told, and all are judged by."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        for connection in self.connections:
            connection.session.rules = rules

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A protocol for a new connection."""
        return AuthProtocol(self, next(self._numbers))


@implementer(IPushProducer)
class AuthProtocol(Protocol):
    """One client."""

    transport: Any
    factory: AuthFactory

    def __init__(self, factory: AuthFactory, number: int) -> None:
        self.factory = factory
        self.session = Session(factory.rules)
        self._number = number
        self._reader = wire.Reader()
        self._running: dict[Request, Deferred[Any]] = {}
        self._timer: Any = None
        self._is_over = False
        self._is_draining = False
        self._gone: list[Deferred[None]] = []
        self._send: Callable[[bytes], None]

    @property
    def running(self) -> int:
        """How many requests wait for their verdict."""
        return len(self._running)

    # Twisted calls these.

    def connectionMade(self) -> None:
        """Greet, whatever the directory is doing."""
        self.factory.connections.add(self)
        self.transport.registerProducer(self, True)
        self._send = Outlet(self.transport).send
        self._send(self.session.greet(os.getpid(), self._number, os.urandom(16)))

    def dataReceived(self, data: bytes) -> None:
        """Carry out all that these bytes complete."""
        if self._is_over or self._is_draining:
            return
        try:
            for command in self._reader.feed(data):
                self._stop_timer()
                for event in self.session.receive(command, self.factory.reactor.seconds()):
                    if not self._is_over:
                        self._carry_out(event)
                if self._is_over:
                    return
        except wire.Broken as broken:
            self._drop("protocol_broken", str(broken))
            return
        if self._reader.is_partial and self._timer is None:
            self._timer = self.factory.reactor.callLater(HALF_LINE_MAX, self._half_line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Free all that was under way."""
        self._end()
        self._stop_timer()
        self.factory.connections.discard(self)
        gone, self._gone = self._gone, []
        for waiting in gone:
            waiting.callback(None)

    def pauseProducing(self) -> None:
        """The client lets our answers pile up."""
        self._drop("client_does_not_read", "answers pile up", abort=True)

    def resumeProducing(self) -> None:
        """Never needed: who does not read is dropped."""

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    # The shell calls these.

    def drain(self) -> Deferred[None]:
        """Answer what is in flight, then close; fires when the connection is gone."""
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        self._is_draining = True
        self._close_when_done()
        return gone

    def _carry_out(self, event: Event) -> None:
        match event:
            case Send(line):
                self._send(line)
            case Ask(request, credentials):
                self._ask(request, credentials)
            case Drop(request):
                self._running.pop(request).cancel()
            case Answer():
                self._answer(event)

    def _ask(self, request: Request, credentials: Credentials) -> None:
        login, request.asked_at = credentials.login, self.factory.reactor.seconds()
        try:
            verified = self.factory.recall(credentials, request)
            if verified is not None:
                self._deliver(self.session.settle(request, verified))
                return
        except Exception as wrong:  # noqa: BLE001  a fault is never a refusal
            self._cannot_know(Failure(wrong), request, login)  # type: ignore[no-untyped-call]
            return
        verdict: Deferred[Any] = ensureDeferred(self.factory.judge(credentials, request))
        self._running[request] = verdict
        self.factory.deadlines.watch(verdict)
        verdict.addBoth(self._forget, request)
        verdict.addCallback(lambda outcome: self.session.settle(request, outcome))
        verdict.addErrback(self._cannot_know, request, login)
        verdict.addCallback(self._deliver)

    def _forget(self, result: Any, request: Request) -> Any:
        self._running.pop(request, None)
        return result

    def _cannot_know(self, failure: Failure, request: Request, login: str) -> Answer | None:
        """Every failure ends here, and none of them becomes a refusal."""
        if self._is_over:
            return None
        why, detail = blame(failure)
        try:
            answer = self.session.give_up(request)
        except HangUp:
            self._unavailable(request, why, login, detail, "hang_up")
            self._close()
            return None
        if answer is not None:
            self._unavailable(request, why, login, detail, "temp_fail")
            self._send(answer.line)
            self._close_when_done()
        return None

    def _unavailable(self, request: Request, why: str, login: str, detail: str, answer: str) -> None:
        now = self.factory.reactor.seconds()
        self.factory.reports.outcome(request, "unavailable", why, login, now, detail=detail, answer=answer)

    def _deliver(self, answer: Answer | None) -> None:
        if answer is not None and not self._is_over:
            self._answer(answer)
            self._close_when_done()

    def _answer(self, answer: Answer) -> None:
        now = self.factory.reactor.seconds()
        self.factory.reports.outcome(answer.request, answer.result, answer.reason, answer.login, now)
        self._send(answer.line)

    def _drop(self, event: str, why: str, *, abort: bool = False) -> None:
        if not self._is_over:
            self.factory.reports.dropped(event, why, self._number)
            self._close()
        if abort:
            self.transport.abortConnection()

    def _half_line(self) -> None:
        self._timer = None
        self._drop("half_line", f"a line was not ended within {HALF_LINE_MAX:g} s")

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _close_when_done(self) -> None:
        if self._is_draining and not self._running and not self._is_over:
            self._close()

    def _end(self) -> None:
        self._is_over = True
        running, self._running = self._running, {}
        for verdict in running.values():
            verdict.cancel()

    def _close(self) -> None:
        """Say what is still to be said, and go."""
        self._end()
        self._stop_timer()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._timer = self.factory.reactor.callLater(LINGER, self.transport.abortConnection)
