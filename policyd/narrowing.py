"""Look-ups of logins that came with an app password which narrows them.

Knows that such a login owns less, and nothing at all once the app password is revoked or over. Must not know
any restriction, nor what a directory keeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred, ensureDeferred

from directory import address
from directory.identity import Address, Directory, Login, Principal, Question, Unavailable
from directory.ownership import narrow
from ledger.app_passwords import senders_of
from ledger.charges import Ledger
from ledger.charges import Unavailable as LedgerUnavailable

Found = Principal | Awaitable[Principal | None] | None


def look_up(
    question: Question, directory: Directory, ledger: Ledger, rules: address.Rules, clock: Callable[[], float]
) -> Found:
    """What `Directory.look_up` says, narrowed; fails with Unavailable also when the ledger is away."""
    found = directory.look_up(question)
    if not isinstance(question, Login) or not question.credential or found is None:
        return found
    narrowed: Deferred[Principal | None] = ensureDeferred(
        _narrowed(found, question.credential, ledger, rules, clock)
    )
    return narrowed


async def _narrowed(
    found: Principal | Awaitable[Principal | None],
    credential: str,
    ledger: Ledger,
    rules: address.Rules,
    clock: Callable[[], float],
) -> Principal | None:
    principal = found if isinstance(found, Principal) else await found
    if principal is None:
        return None
    try:
        kept = await ledger.app_passwords(principal.name)
    except LedgerUnavailable as away:
        raise Unavailable(f"the ledger is away: {away}") from None
    senders = senders_of(kept, credential, clock())
    return None if senders is None else narrow(principal, map(Address, senders), rules)
