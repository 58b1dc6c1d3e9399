"""Tickets on their way back to the ledger: many in one trip.

Knows for how long they are gathered. Must not know what a ticket is for, nor where the ledger is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.marks import Pair

SOON = 0.01  # seconds


class Returns:
    """Gathers pairs and hands them to `drop`."""

    def __init__(self, reactor: Any, drop: Callable[[tuple[Pair, ...]], None]) -> None:
        self._reactor = reactor
        self._drop = drop
        self._gathered: dict[str, list[str]] = {}
        self._timer: Any = None

    def add(self, key: str, name: str) -> None:
        """Drop this mark soon."""
        self._gathered.setdefault(key, []).append(name)
        if self._timer is None:
            self._timer = self._reactor.callLater(SOON, self.send)

    def owes(self, key: str) -> bool:
        """Whether some of this key have not been sent yet."""
        return key in self._gathered

    def send(self) -> None:
        """Now."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        gathered, self._gathered = self._gathered, {}
        if gathered:
            self._drop(tuple((key, name) for key, names in gathered.items() for name in names))
