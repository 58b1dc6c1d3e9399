"""The gate: accepts connections, and stops accepting when there are too many.

Knows accepting, the allow-list and the cap on connections. Twisted's own port accepts and closes when the
descriptors run out; here the backlog waits instead, because Postfix takes a closed connection for a broken
service. Must not know any protocol.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReadDescriptor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sidecar.listen import Held
from sidecar.log import Log

BATCH = 64  # connections accepted before others get their turn
BREATH = 0.5  # seconds without accepting when the system is out of descriptors or memory
QUIET = 10.0  # seconds between two lines about the same trouble

_twisted = Logger()


class Gate:
    """All listeners of a process, and how many connections they hold together."""

    def __init__(self, reactor: Any, log: Log, most: int) -> None:
        self.reactor = reactor
        self.log = log
        self.most = most
        self.refused = 0
        self._connections: set[_Counted] = set()
        self._empty: Deferred[None] | None = None
        self._acceptors: list[Acceptor] = []
        self._paused = False
        self._said: dict[str, float] = {}

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def add(self, held: Held, factory: IProtocolFactory) -> None:
        """Begin to accept on a socket."""
        factory.doStart()
        self._acceptors.append(Acceptor(self, held, factory))
        self.reactor.addReader(self._acceptors[-1])

    def close(self) -> None:
        """Stop accepting for good; what is connected stays."""
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            self.reactor.removeReader(acceptor)
            acceptor.factory.doStop()
            acceptor.held.release()

    def hang_up(self) -> Deferred[None]:
        """Close every connection once what was written to it is sent; fires when none is left."""
        self._empty = Deferred()
        for connection in tuple(self._connections):
            connection.hang_up()
        self._check_empty()
        return self._empty

    def _check_empty(self) -> None:
        if not self._connections and self._empty is not None and not self._empty.called:
            self._empty.callback(None)

    def has_room(self) -> bool:
        """Whether one more connection may come in; if not, nothing is accepted until one has left."""
        if self.open >= self.most:
            self._pause("connections", f"{self.open} connections are open, which is the most; new ones wait")
        return not self._paused

    def starve(self, error: OSError) -> None:
        """Stop accepting for a moment: the system has no descriptor or memory left."""
        self._pause("descriptors", f"cannot accept: {error.strerror}; new connections wait")
        self.reactor.callLater(BREATH, self._resume)

    def refuse(self, peer: str, held: Held) -> None:
        """Note a TCP peer that is not on the allow-list."""
        self.refused += 1
        self.say("peer_refused", f"{peer} is not in allow of {held.listener.address}", refused=self.refused)

    def say(self, event: str, text: str, **fields: object) -> None:
        """Write a warning, at most once in a while for each kind of trouble."""
        now = self.reactor.seconds()
        if now - self._said.get(event, -QUIET) >= QUIET:
            self._said[event] = now
            self.log.warning(event, text=text, **fields)

    def entered(self, connection: _Counted) -> None:
        """A connection begins."""
        self._connections.add(connection)

    def left(self, connection: _Counted) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._check_empty()
        self._resume()

    def _pause(self, event: str, text: str) -> None:
        self.say(event, text)
        self._paused = True
        for acceptor in self._acceptors:
            self.reactor.removeReader(acceptor)

    def _resume(self) -> None:
        if self._paused and self.open < self.most:
            self._paused = False
            for acceptor in self._acceptors:
                self.reactor.addReader(acceptor)


@implementer(IReadDescriptor)
class Acceptor:
    """One listening socket in the reactor."""

    def __init__(self, gate: Gate, held: Held, factory: IProtocolFactory) -> None:
        self.gate = gate
        self.held = held
        self.factory = factory
        self._counted = _CountedFactory(factory, gate)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.held.socket.fileno()

    def logPrefix(self) -> str:
        """How Twisted names this in its own log."""
        return self.held.listener.address

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lets go of everything at the end."""

    def doRead(self) -> None:
        """Accept what waits, as far as there is room."""
        for _ in range(BATCH):
            if not self.gate.has_room():
                return
            try:
                connection, peer = self.held.socket.accept()
            except BlockingIOError:
                return
            except (ConnectionError, PermissionError, InterruptedError):
                continue  # this peer is gone or filtered; the next one may wait behind it
            except OSError as error:
                self.gate.starve(error)
                return
            with connection, _twisted.failuresHandled("while accepting"):
                self._admit(connection, peer)

    def _admit(self, connection: socket.socket, peer: Any) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            if not self.held.listener.admits(peer[0]):
                self.gate.refuse(peer[0], self.held)
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.gate.reactor.adoptStreamConnection(connection.fileno(), connection.family, self._counted)
        except OSError as error:
            self.gate.say("accept", f"a connection was lost: {error.strerror}")


class _CountedFactory(Factory):
    """Wraps each protocol so that the gate knows when it ends."""

    noisy = False

    def __init__(self, inner: IProtocolFactory, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """The wrapped protocol of a new connection."""
        inner = self._inner.buildProtocol(addr)  # type: ignore[arg-type]  # the interface is narrower
        return None if inner is None else _Counted(inner, self._gate)


class _Counted(Protocol):
    """Passes everything on; the inner protocol has the real transport."""

    def __init__(self, inner: IProtocol, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate
        self._transport: Any = None
        setattr(self, "dataReceived", inner.dataReceived)  # noqa: B010  # saves a call for each read

    def makeConnection(self, transport: Any) -> None:
        """Count in; a protocol that fails here loses its connection and nothing else."""
        self._transport = transport
        self._gate.entered(self)
        with _twisted.failuresHandled("while a connection begins") as begin:
            self._inner.makeConnection(transport)
        if begin.failed:
            transport.abortConnection()

    def hang_up(self) -> None:
        """Close once everything is sent."""
        self._transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count out."""
        with _twisted.failuresHandled("while a connection ends"):
            self._inner.connectionLost(reason)
        self._gate.left(self)
