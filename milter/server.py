"""The shell: connections of the MTA, packets in order, one write per answer, nothing held without a bound.

Knows bytes in and out, ordering and bounds. Must not know what is judged or how.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from milter import journal
from milter.judge import Case
from milter.judgement import Verdict
from milter.session import Answer, End, Message, Session, Stage
from milter.session import Judge as Question
from milter.wire import CONTINUE, Packet, Reader, Violation

if TYPE_CHECKING:
    from milter.connections import MilterFactory

STALLED = 10.0  # seconds for the peer to read its answers, or for the rest of its first packet
HALF_READ = 3600.0  # seconds for the rest of any other one: the MTA may keep it while it waits for its client


@implementer(IPushProducer)
class MilterProtocol(Protocol):
    """One connection of the MTA. Between packets it may be idle for ever."""

    transport: Any

    def __init__(self, factory: MilterFactory) -> None:
        self.factory: MilterFactory = factory
        self._reader = Reader()
        self._session = Session(body=factory.looks_at_body)
        self._passed: tuple[Case, Verdict] | None = None
        self._began = 0.0
        self._timer: Any = None
        self._limit = 0.0  # the seconds that it runs
        self._judging = False
        self._working = False
        self._unread = False  # the peer does not read its answers
        self._gone = False

    def connectionMade(self) -> None:
        """Be told when the peer does not read."""
        self._began = self.factory.reactor.seconds()
        self.transport.registerProducer(self, True)
        self.factory.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """A message that is being judged is judged to its end; nobody hears the verdict."""
        self._leave_timer()
        self._gone = True
        self.factory.left(self)

    def dataReceived(self, data: bytes) -> None:
        """Take in what has come, and do what it asks for."""
        if not self._gone:
            self._reader.feed(data)
            self._work()

    def leave(self) -> None:
        """Close as soon as no message is in hand."""
        if self._session.is_idle and not self._judging and not self._gone:
            self._close()

    def _work(self) -> None:
        """Read packets until a verdict is awaited, the peer stops reading, or nothing whole is left."""
        if self._working:
            return
        self._working = True
        try:
            while not (self._judging or self._unread or self._gone):
                packet = self._reader.next()
                if packet is None:
                    break
                self._leave_timer()
                self._receive(packet)
        except Violation as wrong:
            self._drop("protocol_error", str(wrong))
        finally:
            self._working = False
        self._flow()

    def _receive(self, packet: Packet) -> None:
        step = self._session.receive(packet)
        if isinstance(step, Answer):
            self._send(step.data)
        elif isinstance(step, End):
            self._close()
        elif isinstance(step, Question):
            self._judge(step.message)
        else:
            self._overrule()
        if self.factory.leaving:
            self.leave()

    def _judge(self, message: Message) -> None:
        judge, mta = self.factory.judge, self.factory.mta
        mode, began = judge.rules.mode, perf_counter()
        self._judging, self._passed = True, None
        if mode == "off":
            done = judge.take_up(message, mta).addCallback(self._unjudged)
        else:
            done = judge.judge(message, mta, self._began).addCallback(self._judged, mode == "observe", began)
        done.addErrback(self._broken)

    def _unjudged(self, _: None) -> None:
        """Nobody asked us to judge."""
        self._judging = False
        self._send(self._session.judged(CONTINUE).data)
        self._work()

    def _overrule(self) -> None:
        """The body of a message that has passed cannot pass."""
        judge, began = self.factory.judge, perf_counter()
        if self._passed is None or not self.factory.looks_at_body:
            self._send(self._session.judged(CONTINUE).data)
            return
        self._judging = True
        done = judge.overrule(*self._passed)
        done.addCallback(self._judged, judge.rules.mode == "observe", began).addErrback(self._broken)

    def _judged(self, result: tuple[Case, Verdict], observed: bool, began: float) -> None:
        self._judging = False
        case, verdict = result
        self._passed = result if verdict.outcome == "pass" else None
        reply, edits = (CONTINUE if observed else verdict.reply), verdict.edits
        self._send(self._session.judged(reply, edits).data)
        factory, ms = self.factory, 1000 * (perf_counter() - began)
        journal.write(factory.log, factory.counters, case, verdict, observed=observed, ms=ms)
        self._work()

    def _broken(self, failure: Failure) -> None:
        """Nothing we know of leads here; without an answer the MTA defers the message."""
        self._judging = False
        self._drop("internal_error", failure.getErrorMessage())

    def _send(self, data: bytes) -> None:
        if data and not self._gone:
            self.transport.write(data)

    def _flow(self) -> None:
        """Read on only when there is something to do with it: what we hold stays bounded."""
        if self._gone:
            return
        self._watch()
        if self._judging or self._unread:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def _watch(self) -> None:
        """A timer runs while a packet is half read or answers are unread, never between packets."""
        limit = STALLED if self._unread or self._session.stage is Stage.NEW else HALF_READ
        if not self._unread and (self._judging or self._reader.is_between_packets):
            limit = 0.0
        if limit != self._limit:
            self._leave_timer()
            self._limit = limit
            self._timer = self.factory.reactor.callLater(limit, self._too_slow) if limit else None

    def _leave_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._limit = None, 0.0

    def _too_slow(self) -> None:
        self._timer = None
        self._note_drop("protocol_error", f"half a packet, or answers unread, for {self._limit:g} s")
        self._gone = True
        self.transport.abortConnection()

    def _drop(self, event: str, reason: str) -> None:
        """Say it once in the log, and nothing more to the peer."""
        if not self._gone:
            self._note_drop(event, reason)
            self._close()

    def _note_drop(self, event: str, reason: str) -> None:
        self.factory.log.warning(event, listener=self.factory.name, reason=reason)
        self.factory.counters.dropped.count(event)

    def _close(self) -> None:
        """What was answered before still goes out, if the peer reads it in time."""
        self._gone = True
        self._leave_timer()
        self._timer = self.factory.reactor.callLater(STALLED, self._abort)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _abort(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """The peer does not read its answers: take in nothing more until it does."""
        self._unread = True
        self._flow()

    def resumeProducing(self) -> None:
        """It reads again."""
        self._unread = False
        self._work()

    def stopProducing(self) -> None:
        """The connection ends; see connectionLost."""
