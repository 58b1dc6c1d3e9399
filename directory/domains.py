"""Domains in an LDAP directory: those that stand for others, and who is listed in each.

Knows the entries of domain aliases. Must not know how entries are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from directory.address import domain_of, parse_domain
from directory.identity import Address
from directory.ownership import DomainAliases
from directory.people import Entry, Listed
from directory.shape import Shape
from directory.troubles import Puzzling


def alias_pairs(entries: Iterable[Entry], shape: Shape) -> tuple[dict[str, str], list[str]]:
    """Domain → the domain it stands for, out of the entries of domain aliases; and what was left out."""
    pairs: dict[str, str] = {}
    notes: list[str] = []
    for entry in entries:
        for role in ("alias_domain", "alias_target"):
            if len(entry.texts(shape.names(role))) != 1:
                notes.append(f"{entry.dn} has no single {', '.join(shape.names(role))}")
        try:
            alias, target = (
                parse_domain(t) for t in entry.texts(shape.names("alias_domain", "alias_target"))
            )
        except ValueError as wrong:
            notes.append(f"{entry.dn}: {wrong}")
            continue
        if pairs.setdefault(alias, target) != target:
            raise Puzzling(f"{alias} stands for {pairs[alias]} and for {target} ({entry.dn})")
    return pairs, notes


def with_pairs(aliases: DomainAliases, pairs: Mapping[str, str]) -> DomainAliases:
    """The aliases of each domain, those of the settings and those of the directory."""
    together = {domain: list(names) for domain, names in aliases.items()}
    for alias, target in pairs.items():
        names = together.setdefault(target, [])
        if alias not in names and alias != target:
            names.append(alias)
    return {domain: tuple(names) for domain, names in together.items()}


def by_domain(addresses: Mapping[Address, str]) -> Listed:
    """Addresses by domain, with words that say that it is the domain which grants them."""
    listed: dict[str, dict[Address, str]] = {}
    for address, words in addresses.items():
        domain = domain_of(address)
        listed.setdefault(domain, {})[address] = f"domain {domain} (listed), which holds {words}"
    return listed
