"""The settings of policyd: its own section, and the sections of others that it reads.

Knows names, defaults and which combinations are wrong. Must not know how anything is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from directory.settings import DirectorySettings
from ledger.escalation import Escalation
from ledger.events import KEPT
from ledger.limits import parse_limit
from ledger.settings import LedgerSettings, Plans, default_plans
from ledger.tombstones import KEPT as TOMBSTONES_KEPT
from policyd.facts import RESTRICTIONS, Mode, Rules
from policyd.scopes import SharedLimits
from sidecar.listen import Listen
from sidecar.log import LogSettings
from sidecar.problems import did_you_mean
from sidecar.settings import duration, host_name, load

FOREIGN = frozenset({"auth", "author", "sign", "dns"})


def _restriction(text: str) -> str:
    if text not in RESTRICTIONS:
        raise ValueError(f"unknown restriction; allowed: {', '.join(RESTRICTIONS)}")
    return text


def _every_restriction() -> dict[str, Mode]:
    return dict.fromkeys(RESTRICTIONS, "enforce")


@dataclass(frozen=True, slots=True)
class EscalationSettings:
    """The section `policy.escalation`."""

    windows: int = field(
        default=3, metadata={"help": "so many windows of a principal's limits tripped set a block; 0: never"}
    )
    within: float = field(
        default=86400.0, metadata={"parse": duration, "help": "the time in which they count"}
    )
    block: float = field(default=3600.0, metadata={"parse": duration, "help": "how long that block lasts"})
    returns: int = field(
        default=3, metadata={"help": "a block that has come back so often is for good; 0: never"}
    )
    period: float = field(
        default=7 * 86400.0,
        metadata={"parse": duration, "help": "the time in which they count, 30 days at most"},
    )

    def __post_init__(self) -> None:
        if self.windows < 0 or self.returns < 0:
            raise ValueError("windows and returns are 0 or more")
        if self.within <= 0 or self.block <= 0 or self.period <= 0:
            raise ValueError("within, block and period need more than nothing")
        if self.within > KEPT or self.period > TOMBSTONES_KEPT:
            raise ValueError("what is longer ago than 30 days is not known any more")

    @property
    def numbers(self) -> Escalation:
        """The same for judgement."""
        return Escalation(self.windows, self.within, self.block, self.returns, self.period)


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The section `policy`."""

    charge: Literal["data", "rcpt"] = field(
        default="data",
        metadata={
            "help": "`data` reserves at DATA and settles at END-OF-MESSAGE; `rcpt` takes each recipient at"
            " RCPT, for sites that ask us there alone"
        },
    )
    contact: str = field(default="", metadata={"help": "whom refusals name: an address, a number, a page"})
    restrictions: dict[str, Mode] = field(
        default_factory=_every_restriction,
        metadata={
            "parse_key": _restriction,
            "help": "each `enforce`, `observe` (log, let pass) or `off`, in the order in which they refuse;"
            " one that is left out keeps its place and enforces",
        },
    )
    escalation: EscalationSettings = field(default_factory=EscalationSettings)

    @property
    def ordered(self) -> tuple[tuple[str, Mode], ...]:
        """Every restriction with its mode: the named ones in their order, at the places that are theirs."""
        named = iter(self.restrictions.items())
        return tuple(next(named) if name in self.restrictions else (name, "enforce") for name in RESTRICTIONS)


#: Keys, and what is wrong below them.
Mistake = tuple[tuple[str, ...], str]


def mistakes(plans: Plans, limits: SharedLimits, directory: DirectorySettings) -> Iterator[Mistake]:
    """Plans that are named and not there, and aliases of domains that are named in place of these."""
    by = directory.plans
    named: list[Mistake] = [(("limits", "domains", key), plan) for key, plan in limits.domains.items()]
    named += [(("limits", "networks", key), plan) for key, plan in limits.networks.items()]
    named += [(("limits", "relay"), limits.relay)] if limits.relay else []
    named += [(("directory", "plans", "groups", key), plan) for key, plan in by.groups.items()]
    named += [(("directory", "plans", "domains", key), plan) for key, plan in by.domains.items()]
    for keys, plan in named:
        if plan not in plans:
            yield keys, f"there is no plan {plan!r}{did_you_mean(plan, plans)}; known: {', '.join(plans)}"
    primaries = directory.reading.primaries
    for section, listed in (("limits", limits.domains), ("directory.plans", by.domains)):
        for domain in listed:
            if domain in primaries:
                home = primaries[domain]
                text = f"is an alias of {home}: its senders are at home there, so write {home}"
                yield (*section.split("."), "domains", domain), text


@dataclass(frozen=True, slots=True)
class Settings:
    """All that policyd reads."""

    version: Literal[1] = field(metadata={"help": "of these settings: 1"})
    mta: str = field(
        default_factory=host_name,
        metadata={"help": "the name of this mail host in the ledger, the same for all its sidecars"},
    )
    environment: str = field(default="production", metadata={"help": "a word for the log"})
    listen: Listen = field(default_factory=Listen)
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    plans: Plans = field(
        default_factory=default_plans,
        metadata={"parse": parse_limit, "help": "named sets of limits, such as 500 recipients per day"},
    )
    limits: SharedLimits = field(default_factory=SharedLimits)
    policy: PolicySettings = field(default_factory=PolicySettings)
    log: LogSettings = field(default_factory=LogSettings)

    @property
    def rules(self) -> Rules:
        """What judgement needs of all this."""
        policy = self.policy
        addresses = self.directory.addresses
        return Rules(policy.ordered, self.plans, addresses, policy.charge, policy.contact, self.limits)

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong between sections."""
        return mistakes(self.plans, self.limits, self.directory)


def load_settings(path: str | Path) -> Settings:
    """The settings in `path` and its conf.d. Raises SettingsError with every mistake."""
    return load(path, Settings, foreign=FOREIGN)
