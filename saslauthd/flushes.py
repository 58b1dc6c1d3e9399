"""What the operator has told all processes to forget, read from the ledger when its generation moves.

Knows the key under which flushes are marked. Must not know who marks them, nor what is remembered.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred

from ledger.charges import Ledger, Unavailable
from saslauthd.guard import FLUSHES
from saslauthd.recollection import Recollection
from saslauthd.sentry import Sentry


class Flushes:
    """Carries each flush out once."""

    def __init__(self, ledger: Ledger, recollection: Recollection, sentry: Sentry, log: Any) -> None:
        self.ledger = ledger
        self._recollection = recollection
        self._sentry = sentry
        self._log = log
        self._done: frozenset[str] = frozenset()

    def look(self) -> None:
        """Look for new ones."""
        looked = ensureDeferred(self._look())
        looked.addErrback(lambda failure: self._log.error("flush", problem=failure.getErrorMessage()))

    async def _look(self) -> None:
        try:
            marked = frozenset(await self.ledger.guard_names(FLUSHES))
        except Unavailable as away:
            self._log.warning("flush", problem=str(away))
            return
        for name in sorted(marked - self._done):
            login = name.rpartition(" ")[0]
            self._recollection.flush(login)
            self._sentry.forget()
            self._log.notice("flush", login=login)
        self._done = marked
