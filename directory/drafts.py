"""Drafts: entries that were read one by one, and the principals they become together.

Knows which values of an entry make a principal, and domains in which a principal owns what others have
listed. Must not know how an entry is written, nor which entries exclude each other.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from directory.address import Rules, domain_of
from directory.identity import Address, Kind, Principal
from directory.ownership import DomainAliases, Grants
from directory.plans import PlanSettings, names_of_groups


@dataclass(frozen=True, slots=True)
class Reading:
    """What an entry needs from the settings to become a principal. `primaries` says of each alias which
    domain it stands for."""

    aliases: DomainAliases = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    terms_required: bool = False
    terms_url: str = ""
    terms_version: str = ""
    plans: PlanSettings = field(default_factory=PlanSettings)
    primaries: Mapping[str, str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        primaries = {alias: domain for domain, names in self.aliases.items() for alias in names}
        object.__setattr__(self, "primaries", primaries)

    def primary(self, domain: str) -> str:
        """The domain that `domain` is an alias of, or itself."""
        return self.primaries.get(domain, domain)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an entry says besides what it owns; `accepted` None means that it says nothing, as does a `plan`
    of ``""``."""

    plan: str = ""
    null_sender: bool = False
    disabled: bool = False
    accepted: bool | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Authors:
    """What may stand in From besides what the entry owns, or, with `only`, instead of it."""

    addresses: Mapping[Address, str] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)
    only: bool = False


@dataclass(slots=True)
class Draft:
    """One entry. `label` is its key in the file, `name` the principal's, `line` where it stands;
    a login comes from `networks`, everywhere when there are none."""

    kind: Kind
    label: str
    name: str
    line: int
    grants: Grants
    terms: Terms
    fingerprints: tuple[str, ...] = ()
    authors: Authors = field(default_factory=Authors)
    networks: tuple[str, ...] = ()


def finish(drafts: Iterable[Draft], reading: Reading) -> dict[tuple[Kind, str], Principal]:
    """The principals by kind and name."""
    drafts = tuple(drafts)
    wanted = {domain for draft in drafts for domain in draft.grants.listed}
    listed: dict[str, dict[Address, str]] = {domain: {} for domain in wanted}
    if wanted:
        for draft in drafts:
            for address, words in (*draft.grants.own.items(), *draft.grants.shared.items()):
                domain = domain_of(address)
                if domain in wanted:
                    listed[domain].setdefault(address, f"domain {domain} (listed), which holds {words}")
    return {(draft.kind, draft.name): _principal(draft, listed, reading) for draft in drafts}


def _principal(draft: Draft, listed: Mapping[str, dict[Address, str]], reading: Reading) -> Principal:
    grants, terms = draft.grants, draft.terms
    addresses: Mapping[Address, str] = {**grants.shared, **grants.own} if grants.shared else grants.own
    if grants.listed:
        # What a whole domain lists is one mapping for all who own it; nobody writes into any of these.
        addresses = ChainMap(dict(addresses), *(listed[domain] for domain in grants.listed))
    domain = reading.primary(grants.domain)
    plan, plan_from = reading.plans.choose(terms.plan, terms.groups, domain)
    return Principal(
        draft.kind,
        draft.name,
        addresses,
        grants.any,
        domain,
        plan,
        terms.null_sender,
        terms.disabled,
        not reading.terms_required if terms.accepted is None else terms.accepted,
        reading.terms_url,
        draft.fingerprints,
        draft.authors.addresses,
        draft.authors.domains,
        draft.authors.only,
        draft.networks,
        plan_from,
        names_of_groups(terms.groups),
    )
