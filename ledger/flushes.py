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


class Flushes:
    """Carries each flush out once, by `forget(login)`."""

    def __init__(self, forget: Callable[[str], None], log: Any) -> None:
        self._forget = forget
        self._log = log
        self._ledger: Ledger | None = None
        self._done: frozenset[str] = frozenset()

    def follow(self, ledger: Ledger) -> None:
        """Read them from this ledger from now on."""

        def changed(generation: int, blocks: tuple[Block, ...]) -> None:
            if ledger is self._ledger:
                looked = ensureDeferred(self._look(ledger))
                looked.addErrback(lambda failure: self._log.error("flush", problem=failure.getErrorMessage()))

        self._ledger = ledger
        ledger.watch(changed)

    async def _look(self, ledger: Ledger) -> None:
        try:
            marked = frozenset(await ledger.guard_names(FLUSHES))
        except Unavailable as away:
            self._log.warning("flush", problem=str(away))
            return
        for name in sorted(marked - self._done):
            login = name.rpartition(" ")[0]
            self._forget(login)
            self._log.notice("flush", login=login)
        self._done = marked
