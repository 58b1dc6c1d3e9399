"""App passwords judged: looked up by id in the ledger, compared by digest, narrowed.

Knows what makes an app password right and what its login goes out as. Must not know the guard, nor where
else a login's password might be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from directory.identity import Principal, Unavailable, Verified, join_credential
from ledger.app_passwords import is_secret_of
from ledger.charges import Ledger
from ledger.charges import Unavailable as LedgerUnavailable
from saslauthd.admissions import is_within
from saslauthd.mechanisms import Refused

USED_EVERY = 60.0  # seconds between two notes of the same one's last use
USED_MOST = 10_000


class AppPasswords:
    """`clock` gives epoch seconds."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._key = b""
        self._clock = clock
        self._used: dict[tuple[str, str], float] = {}

    async def judge(
        self, name: str, principal: Principal | None, given: tuple[str, bytes], rip: bytes
    ) -> Verified | Refused:
        """The outcome for id and secret of an app password of login `name`. Raises Unavailable."""
        id, secret = given
        if not self._key:
            self._key = await _known(self._ledger.secret("app-passwords"))
        kept = {one.id: one for one in await _known(self._ledger.app_passwords(name))}.get(id)
        right = is_secret_of(kept, secret, self._key)
        if principal is None:
            return Refused("unknown_login", name)
        now = self._clock()
        if kept is None or not right or kept.revoked is not None:
            return Refused("wrong_password", name)
        if not kept.holds(now):
            return Refused("expired", name)
        if principal.disabled:
            return Refused("disabled", name)
        if not is_within(kept.networks, rip):
            return Refused("network_refused", name)
        self._note(name, id, rip, now)
        return Verified(join_credential(name, id) if kept.senders else name)

    def _note(self, name: str, id: str, rip: bytes, now: float) -> None:
        if now - self._used.get((name, id), -USED_EVERY) < USED_EVERY:
            return
        if len(self._used) >= USED_MOST:
            self._used.clear()
        self._used[name, id] = now
        told = ensureDeferred(
            _known(self._ledger.use_app_password(name, id, rip[:64].decode("ascii", "replace")))
        )
        told.addErrback(_lost)


def _lost(failure: Failure) -> None:
    """The last use is not worth more than a try."""
    if not isinstance(failure.value, Unavailable):
        failure.raiseException()


async def _known(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except LedgerUnavailable as away:
        raise Unavailable(f"the ledger is away: {away}") from None
