"""Peers without sockets, and stores that come, go and dawdle: what a sidecar meets in the harnesses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from inspect import getmembers, iscoroutinefunction
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from ledger.model import ModelLedger

#: Every verb of the ledger that is awaited.
LEDGER_VERBS = frozenset(name for name, _ in getmembers(ModelLedger, iscoroutinefunction))
BACKLOG = 65536  # octets of answers after which a transport says that the peer does not read


class BrokenPromise(AssertionError):
    """An input made a sidecar do what it must never do."""


def promise(kept: object, what: str) -> None:
    """Raise BrokenPromise unless it is kept."""
    if not kept:
        raise BrokenPromise(what)


@dataclass(frozen=True)
class How:
    """The first octet of an input: how the rest arrives, and what happens meanwhile."""

    piece: int  # octets that arrive together, 0: all
    away: bool  # the stores are away
    late: bool  # the stores answer after everything has arrived …
    leaves: bool  # … and after the peer has gone
    deaf: bool  # the peer reads none of our answers
    slow: bool  # eleven seconds pass after each of the first ten portions
    other: bool  # the harness's other set-up: nobody is known, nothing is right

    @classmethod
    def of(cls, octet: int) -> How:
        bits = [bool(octet >> place & 1) for place in range(2, 8)]
        return cls((0, 1, 7, 1000)[octet & 3], *bits)

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The portions in which `data` arrives; at most some 500, or time is all that is tested."""
        size = max(self.piece, len(data) // 500) if self.piece else max(1, len(data))
        return (data[start : start + size] for start in range(0, len(data), size))


class Stores:
    """Stands before a directory or a ledger; the verbs in `slow` are those that may be away or late."""

    def __init__(self, real: Any, slow: frozenset[str], away: type[Exception]) -> None:
        self._real = real
        self._slow = slow
        self._away = away
        self._waiting: list[Callable[[], None]] = []
        self.is_away = self.is_late = False

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._real, name)
        return self._dawdling(verb) if name in self._slow else verb

    def _dawdling(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **named: Any) -> Any:
            if self.is_away:
                return fail(self._away("the harness took it away"))
            if not self.is_late:
                return verb(*arguments, **named)
            answer: Deferred[Any] = Deferred()
            self._waiting.append(lambda: answer.called or answer.callback(None))
            return answer.addCallback(lambda _: _awaited(verb(*arguments, **named)))

        return ask

    def catch_up(self) -> bool:
        """Answer what waits; whether anything did."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one()
        return bool(waiting)


def _awaited(answer: Any) -> Any:
    return ensureDeferred(answer) if isinstance(answer, Coroutine) else answer


class Transport:
    """A connection as Twisted's transports are, down to the moments at which they call back."""

    def __init__(self, deaf: bool) -> None:
        self.protocol: Any = None
        self.heard = bytearray()
        self.is_paused = self.disconnecting = self.is_aborted = self.is_lost = False
        self._deaf = deaf
        self._producer: Any = None
        self._arriving = bytearray()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        promise(self._producer is None and streaming, "a producer was registered twice")
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        promise(isinstance(data, bytes), "something else than bytes was written")
        if self.is_lost or self.is_aborted or self.disconnecting:
            return
        before = len(self.heard)
        self.heard += data
        if self._deaf and before <= BACKLOG < len(self.heard) and self._producer is not None:
            self._producer.pauseProducing()

    def writeSomeData(self, data: bytes) -> int | Exception:
        """What the kernel takes at once: nothing more when it is full."""
        if self.is_lost or self.is_aborted:
            return ConnectionDone()
        taken = max(0, min(len(data), BACKLOG - len(self.heard))) if self._deaf else len(data)
        self.heard += data[:taken]
        return taken

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.is_aborted = True

    # What the harness does.

    @property
    def is_over(self) -> bool:
        """Whether the sidecar has had enough of this peer."""
        return self.disconnecting or self.is_aborted or self.is_lost

    def arrive(self, data: bytes) -> None:
        """Bytes of the peer; they wait while the sidecar reads nothing."""
        self._arriving += data
        self.turn()

    def turn(self) -> None:
        """A turn of the reactor: what waits is read, what is over is lost."""
        if self._arriving and not self.is_paused and not self.is_over:
            data = bytes(self._arriving)
            self._arriving.clear()
            self.protocol.dataReceived(data)
        if self.is_aborted or (self.disconnecting and not (self._deaf and len(self.heard) > BACKLOG)):
            self.lose()

    def lose(self) -> None:
        """The connection ends."""
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


def connect(factory: Any, deaf: bool = False) -> Transport:
    """A new connection to `factory`."""
    transport = Transport(deaf)
    transport.protocol = factory.buildProtocol(None)
    transport.protocol.makeConnection(transport)
    return transport
