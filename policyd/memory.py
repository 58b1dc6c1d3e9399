"""What policyd remembers between requests, and forgets without harm.

Knows recipients of open transactions, last known standings, scopes and unsettled reservations, all bounded.
Must not know stores or protocols: what is forgotten here is asked for again, or found by the ledger.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

from directory.identity import Principal
from ledger.charges import Admitted, ChargeId, Refused
from ledger.grants import Grants
from ledger.limits import Standing
from policyd.facts import Rules
from policyd.inquiry import networks
from policyd.scopes import NO_GRANTS, Scope, scopes_of

MOST = 10_000  # entries of each kind
STANDING_KEPT = 60.0  # seconds: a reservation that lapses elsewhere moves no generation

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """A dictionary of at most `most` entries, that drops the one that was set or read the longest ago."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of `key`, None when it is not known (any more)."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def set(self, key: K, value: V) -> None:
        """Remember `value`."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> V | None:
        """Forget `key`; returns what it was."""
        return self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


class _Transaction(NamedTuple):
    """What was let through: how many recipients, the last one (as a hash), and who asked about it."""

    recipients: int
    last: int
    connection: int


class Transactions:
    """How many recipients each open transaction has, named by MTA and instance.

    A recipient that is repeated counts again, as in Postfix's `recipient_count`: it may be delivered again.
    A request that Postfix repeats as the answer was lost does not: it comes next, on another connection.
    """

    def __init__(self, most: int = MOST) -> None:
        self._open: Bounded[tuple[str, str], _Transaction] = Bounded(most)

    def count(self, mta: str, instance: str, recipient: str, connection: int) -> int:
        """How many recipients there are with this one."""
        known = self._open.get((mta, instance)) if instance else None
        if known is None:
            return 1
        lost = hash(recipient) == known.last and connection != known.connection
        return known.recipients + (not lost)

    def size(self, mta: str, instance: str) -> int:
        """How many recipients were noted, at least 1."""
        known = self._open.get((mta, instance)) if instance else None
        return known.recipients if known else 1

    def add(self, mta: str, instance: str, recipient: str, connection: int) -> None:
        """Note a recipient that was let through."""
        if instance:
            count = self.count(mta, instance, recipient, connection)
            self._open.set((mta, instance), _Transaction(count, hash(recipient), connection))

    def forget(self, mta: str, instance: str) -> None:
        """The transaction is over."""
        self._open.drop((mta, instance))


class Standings:
    """The last known standings of each subject, until the ledger's generation moves or a minute is over."""

    def __init__(self, most: int = MOST) -> None:
        self._known: Bounded[str, tuple[float, tuple[Standing, ...]]] = Bounded(most)

    def of(self, subject: str, now: float) -> tuple[Standing, ...]:
        """What is known of `subject` at `now` (epoch seconds)."""
        known = self._known.get(subject)
        if known is None or not 0 <= now - known[0] <= STANDING_KEPT:
            return ()
        return known[1]

    def learn(self, answer: Admitted | Refused, now: float) -> None:
        """Remember what an answer of the ledger says, in place of what was known of the same subjects."""
        told = (answer.standing,) if isinstance(answer, Refused) else answer.standings
        of: dict[str, list[Standing]] = {}
        for standing in told:
            of.setdefault(standing.subject, []).append(standing)
        for subject, standings in of.items():
            self._known.set(subject, (now, tuple(standings)))

    def clear(self) -> None:
        """Nothing is known any more."""
        self._known.clear()


class Scoping:
    """The scopes of each principal from each address, as long as rules and grants are the same."""

    def __init__(self, most: int = MOST) -> None:
        self._known: Bounded[tuple[str, str, str, str], tuple[Scope, ...]] = Bounded(most)
        self._of: tuple[Rules, Grants] | None = None
        self._from = self._until = 0.0
        self._basis = Rules().basis(NO_GRANTS)

    def of(
        self, principal: Principal, client_address: str, rules: Rules, grants: Grants, now: float
    ) -> tuple[Scope, ...]:
        """Every scope of what `principal` sends from `client_address` at `now` (scopes.scopes_of)."""
        of, time = self._of, grants.time(now)
        if of is None or of[0] is not rules or of[1] is not grants or not self._from <= time < self._until:
            self._known.clear()
            self._of, self._basis = (rules, grants), rules.basis(grants)
            self._from, self._until = time, grants.next_change(time)
        key = principal.subject, principal.plan, principal.domain, client_address
        known = self._known.get(key)
        if known is None:
            known = scopes_of(principal, networks(client_address), self._basis, now)
            self._known.set(key, known)
        return known


#: Reservations that are not settled; True once the ledger has admitted them.
Reservations = Bounded[ChargeId, bool]
