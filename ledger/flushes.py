"""What the operator has told all processes to forget, read from the ledger when its generation moves.

Knows the key under which flushes are marked. Must not know who marks them, nor what is remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import ensureDeferred

from ledger.blocks import Block
from ledger.charges import Ledger, Unavailable
from ledger.marks import FLUSHES

AGAIN = 1.0  # seconds until flushes that could not be read are read again


class Flushes:
    """Carries each flush out once, by `forget(login)`."""

    def __init__(self, forget: Callable[[str], None], log: Any, reactor: Any) -> None:
        self._forget = forget
        self._log = log
        self._reactor = reactor
        self._again: Any = None
        self._ledger: Ledger | None = None
        self._done: frozenset[str] = frozenset()

    def follow(self, ledger: Ledger) -> None:
        """Read them from this ledger from now on."""

        def changed(generation: int, blocks: tuple[Block, ...]) -> None:
            if ledger is self._ledger:
                self._start(ledger)

        self.stop()
        self._ledger = ledger
        ledger.watch(changed)

    def stop(self) -> None:
        """Read them no more."""
        self._ledger = None
        self._still()

    def _still(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = None

    def _start(self, ledger: Ledger, *, is_retry: bool = False) -> None:
        self._still()
        looked = ensureDeferred(self._look(ledger, is_retry))
        looked.addErrback(lambda failure: self._log.error("flush", problem=failure.getErrorMessage()))

    def _retry(self, ledger: Ledger) -> None:
        self._again = None
        self._start(ledger, is_retry=True)

    async def _look(self, ledger: Ledger, is_retry: bool) -> None:
        try:
            marked = frozenset(await ledger.guard_names(FLUSHES))
        except Unavailable as away:
            if not is_retry:
                self._log.warning("flush", problem=str(away))
            if ledger is self._ledger:
                self._still()
                self._again = self._reactor.callLater(AGAIN, self._retry, ledger)
            return
        for name in sorted(marked - self._done):
            login = name.rpartition(" ")[0]
            self._forget(login)
            self._log.notice("flush", login=login)
        self._done = marked
