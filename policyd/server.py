"""The shell: connections of Postfix, requests in order, one answer each, within the deadline.

Knows bytes in and out, ordering, deadlines and bounds. Must not know what is judged or how.
"""

from __future__ import annotations

import itertools
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd import journal
from policyd.deadline import Deadline
from policyd.facts import Context, Verdict
from policyd.inquiry import TOO_EARLY
from policyd.journal import STAGES, Counters
from policyd.judge import Judge, Later
from policyd.wire import REQUEST_MAX, ProtocolError, Reader, Request, encode

DEADLINE = 5.0  # seconds to answer one request; Postfix is told to wait 10
HALF_READ = 10.0  # seconds for a request to come in whole

_TOO_EARLY = "no sender is known yet: nothing is judged here; ask at RCPT, DATA and END-OF-MESSAGE"

_twisted = Logger()
_numbers = itertools.count(1)  # one for each connection, of all listeners


@implementer(IPushProducer)
class PolicyProtocol(Protocol):
    """One connection. A connection at a request boundary may be idle for ever: closing it would cost
    Postfix a second (SMTPD_POLICY_README), and says nothing about the transaction."""

    def __init__(self, factory: PolicyFactory) -> None:
        self.factory: PolicyFactory = factory
        self._number = next(_numbers)
        self._reader = Reader()
        self._waiting: Deferred[Verdict] | None = None  # the verdict that is being awaited
        self._half_read: Any = None
        self._working = False
        self._gone = False
        self._leaving = False
        self._backlog = False  # whether the transport holds bytes that the kernel did not take
        self._last: Request | None = None  # the last request of the transaction that may have reserved

    def connectionMade(self) -> None:
        """Bound what we hold for a peer that does not read."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self.factory.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """A request that is being judged is judged to its end; nobody hears the answer."""
        self._gone = True
        self._set_half_read(False)
        self.factory.left(self)

    def dataReceived(self, data: bytes) -> None:
        """Answer each request that is whole, in this very call when nothing has to be awaited."""
        self._reader.feed(data)
        if self._waiting is None:
            self._work()
        elif len(self._reader) > REQUEST_MAX:
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def leave(self) -> None:
        """Answer what is in flight, then disconnect."""
        self._leaving = True
        if self._waiting is None:
            self._close()

    def _work(self) -> None:
        self._working = True
        try:
            while self._waiting is None and not self._gone:
                request = self._reader.take()
                if request is None:
                    break
                self._set_half_read(False)
                self._judge(request)
        except ProtocolError as wrong:
            self._drop("protocol_error", str(wrong))
        finally:
            self._working = False
        if self._waiting is None and not self._gone:
            if self._leaving:
                self._close()
            else:
                self._set_half_read(len(self._reader) > 0)

    def _judge(self, request: Request) -> None:
        factory, began = self.factory, perf_counter()
        self._notice_new_transaction(request)
        factory.counters.stages.count(request.protocol_state if request.protocol_state in STAGES else "other")
        if request.protocol_state in TOO_EARLY:
            factory.say_too_early(request.protocol_state)
        verdict = factory.judge.judge(request, factory.context, factory.mta, self._number)
        if isinstance(verdict, Verdict):
            self._answer(verdict, request, began)
        else:
            self._await(verdict, request, began)

    def _await(self, verdict: Later, request: Request, began: float) -> None:
        self._waiting = self.factory.deadline.within(verdict)
        self._waiting.addBoth(self._awaited, request, began)

    def _awaited(self, result: Verdict | Failure, request: Request, began: float) -> None:
        self._waiting = None
        if isinstance(result, Failure):
            _twisted.failure("a request could not be judged", result)
            self._drop("internal_error", "see the traceback")
            return
        self._answer(result, request, began)
        if not self._gone and not self._working:
            self.transport.resumeProducing()  # type: ignore[union-attr]
            self._work()

    def _answer(self, verdict: Verdict, request: Request, began: float) -> None:
        self.factory.counters.verdicts.count(verdict.found.restriction if verdict.found else "passed")
        if not self._gone:
            self._send(encode(verdict.action))
        if verdict.found is not None or verdict.warnings:
            self.factory.hear(request, verdict, self.factory.mta)
        journal.write(self.factory.log, request, verdict, perf_counter() - began)

    def _send(self, data: bytes) -> None:
        """Hand the answer to the kernel at once: the reactor's next turn costs as much as judging.

        What the kernel does not take goes through the transport, and from then on everything does.
        """
        transport: Any = self.transport
        if not self._backlog and not transport.disconnecting:
            sent = transport.writeSomeData(data)
            if sent == len(data):
                return
            if not isinstance(sent, int):
                transport.abortConnection()
                return
            self._backlog = True
            data = data[sent:]
        transport.write(data)

    def _notice_new_transaction(self, request: Request) -> None:
        last = self._last
        if last is not None and request.instance != last.instance:
            # The only sign that a transaction is over without END-OF-MESSAGE. A closed connection is none.
            self.factory.judge.abandon(self.factory.mta, last)
        if last is None or request.instance != last.instance or request.queue_id:
            self._last = request

    def _set_half_read(self, is_half_read: bool) -> None:
        if is_half_read and self._half_read is None:
            self._half_read = self.factory.reactor.callLater(HALF_READ, self._too_slow)
        elif not is_half_read and self._half_read is not None:
            self._half_read.cancel()
            self._half_read = None

    def _too_slow(self) -> None:
        self._half_read = None
        self._drop("protocol_error", f"no whole request within {HALF_READ:.0f} s")

    def _drop(self, event: str, reason: str) -> None:
        """Say it once in the log, and nothing to the peer."""
        if not self._gone:
            self.factory.log.warning(event, listener=self.factory.name, reason=reason)
            self.factory.counters.dropped.count(event)
            self._gone = True
            self._set_half_read(False)
            self.transport.abortConnection()  # type: ignore[union-attr]

    def _close(self) -> None:
        self._set_half_read(False)
        self._gone = True
        self.transport.unregisterProducer()  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        """The peer does not read its answers: no reason to hold them for it."""
        self._drop("protocol_error", "answers are not read")

    def resumeProducing(self) -> None:
        """Nothing was paused."""

    def stopProducing(self) -> None:
        """The connection ends; see connectionLost."""


class PolicyFactory(Factory):
    """What the connections of one listener share."""

    noisy = False

    def __init__(
        self,
        judge: Judge,
        *,
        name: str,
        context: Context,
        mta: str,
        reactor: Any,
        log: Any,
        counters: Counters,
        hear: Any,
    ) -> None:
        """`hear` is told of every verdict that something was found for, after its answer went out."""
        self.judge = judge
        self.name = name
        self.context: Context = context
        self.mta = mta
        self.reactor = reactor
        self.log = log
        self.counters = counters
        self.hear = hear
        self.deadline = Deadline(reactor, DEADLINE)
        self.connections: set[PolicyProtocol] = set()
        self._empty: Deferred[None] | None = None
        self._said: set[str] = set()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """The protocol of one connection."""
        return PolicyProtocol(self)

    def left(self, connection: PolicyProtocol) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if self._empty is not None and not self.connections:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def drain(self) -> Deferred[None]:
        """Let every connection answer what is in flight; fires when the last one has ended."""
        if not self.connections:
            return succeed(None)
        self._empty = Deferred()
        result = self._empty
        for connection in tuple(self.connections):
            connection.leave()
        return result

    def say_too_early(self, state: str) -> None:
        """Tell the operator, once, that asking us at this protocol state is of no use."""
        if state not in self._said:
            self._said.add(state)
            self.log.notice("stage", protocol_state=state, reason=_TOO_EARLY)
