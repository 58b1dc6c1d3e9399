"""What goes into the ledger after an attempt: tickets that go back or were used, networks that are known.

Knows for how long it is gathered, so that many attempts cost one transaction, and what is told again. Must
not know what a mark stands for, nor where the ledger is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.task import deferLater

from directory.identity import Unavailable
from ledger.marks import Mark, Pair

SOON = 0.01  # seconds
AGAIN = 1.0  # seconds


async def insist(tell: Callable[[], Awaitable[Any]], reactor: Any) -> None:
    """Call `tell` until it is not Unavailable: what the directory has counted must not be forgotten here."""
    while True:
        try:
            await tell()
            return
        except Unavailable:
            await deferLater(reactor, AGAIN)


class Returns:
    """Gathers by login, and hands all of it to `drop` and `note`."""

    def __init__(
        self,
        reactor: Any,
        drop: Callable[[tuple[Pair, ...]], None],
        note: Callable[[tuple[Mark, ...]], None],
    ) -> None:
        self._reactor = reactor
        self._drop = drop
        self._note = note
        self._pairs: list[Pair] = []
        self._marks: list[Mark] = []
        self._logins: set[str] = set()
        self._timer: Any = None

    def drop(self, login: str, pair: Pair) -> None:
        """Drop this mark soon."""
        self._pairs.append(pair)
        self._expect(login)

    def note(self, login: str, marks: tuple[Mark, ...]) -> None:
        """Note these marks soon."""
        self._marks += marks
        self._expect(login)

    def settle(self, login: str) -> None:
        """Hand over now what there is of a login that is about to be looked at."""
        if login in self._logins:
            self.send()

    def send(self) -> None:
        """Hand over all of it now."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        pairs, self._pairs = self._pairs, []
        marks, self._marks = self._marks, []
        self._logins.clear()
        if pairs:
            self._drop(tuple(pairs))
        if marks:
            self._note(tuple(marks))

    def _expect(self, login: str) -> None:
        self._logins.add(login)
        if self._timer is None:
            self._timer = self._reactor.callLater(SOON, self.send)
