"""The ledger's settings, and the one place that turns them into a store.

Knows the sections `ledger` and `plans`. Must not know who uses the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ledger.limits import Limit, parse_limit

if TYPE_CHECKING:
    from ledger.charges import Ledger

#: The section `plans`: a name and its limits. A plan without limits is exempt.
Plans = dict[str, tuple[Limit, ...]]

DEFAULT_PLAN = ("500 recipients per day", "100 messages per hour", "100 recipients per message")


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """Section `ledger.sqlite`."""

    path: Path = field(
        default=Path("/var/lib/submitward/ledger.sqlite"),
        metadata={"help": "the database file; its directory is setgid and writable for the sidecars' group"},
    )


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Section `ledger`."""

    kind: Literal["sqlite"] = field(default="sqlite", metadata={"help": "which store"})
    sqlite: SqliteSettings = field(default_factory=SqliteSettings)
    unavailable: Literal["defer"] = field(
        default="defer", metadata={"help": "what a sender gets while the store is away: try later"}
    )


def default_plans() -> Plans:
    """What stands without a `plans` section: limits that a person does not meet and a thief does."""
    return {"default": tuple(map(parse_limit, DEFAULT_PLAN))}


def open_ledger(settings: LedgerSettings, *, reactor: Any, log: Any) -> Ledger:
    """The store that the settings name, not yet started: `start()` begins to serve."""
    from ledger.sqlite import SqliteLedger

    return SqliteLedger(settings.sqlite.path, reactor=reactor, log=log)
