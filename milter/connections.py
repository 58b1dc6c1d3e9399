"""What the connections of one listener share, and how they end together.

Knows which connections there are. Must not know bytes, nor what is judged or how.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from milter.journal import Counters
from milter.judge import Judge
from milter.server import MilterProtocol


class MilterFactory(Factory):
    """What the connections of one listener share."""

    noisy = False

    def __init__(
        self, judge: Judge, *, name: str, mta: str, reactor: Any, log: Any, counters: Counters
    ) -> None:
        self.judge = judge
        self.name = name
        self.mta = mta
        self.reactor = reactor
        self.log = log
        self.counters = counters
        self.leaving = False
        self.connections: set[MilterProtocol] = set()
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """The protocol of one connection."""
        return MilterProtocol(self)

    @property
    def looks_at_body(self) -> bool:
        """Whether the MTA is asked for bodies too."""
        rules = self.judge.rules
        return rules.mode != "off" and not rules.long_lines

    def left(self, connection: MilterProtocol) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if self._empty is not None and not self.connections:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def drain(self) -> Deferred[None]:
        """Let each connection end its message; fires when the last one has gone."""
        self.leaving = True
        if not self.connections:
            return succeed(None)
        self._empty = result = Deferred[None]()
        for connection in tuple(self.connections):
            connection.leave()
        return result
