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
        roles = ("alias_domain", "alias_target")
        odd = [role for role in roles if len(entry.texts(shape.names(role))) != 1]
        notes += [f"{entry.dn} has no single {', '.join(shape.names(role))}" for role in odd]
        if odd:
            continue
        try:
            alias, target = (parse_domain(entry.texts(shape.names(role))[0]) for role in roles)
        except ValueError as wrong:
            notes.append(f"{entry.dn}: {wrong}")
            continue
        if pairs.setdefault(alias, target) != target:
            raise Puzzling(f"{alias} stands for {pairs[alias]} and for {target} ({entry.dn})")
    return pairs, notes


def with_pairs(aliases: DomainAliases, pairs: Mapping[str, str]) -> DomainAliases:
    """The aliases of each domain, those of the settings and those of the directory. Raises Puzzling when an
    alias would stand for two domains, or has aliases of its own: somebody would own what is another's."""
    together = {domain: list(names) for domain, names in aliases.items()}
    stands_for = {alias: domain for domain, names in aliases.items() for alias in names}
    for alias, target in pairs.items():
        if alias == target:
            continue
        if stands_for.setdefault(alias, target) != target:
            raise Puzzling(f"{alias} stands for {stands_for[alias]} in the settings, for {target} in LDAP")
        names = together.setdefault(target, [])
        if alias not in names:
            names.append(alias)
    for domain, names in together.items():
        if names and domain in stands_for:
            raise Puzzling(f"{domain} stands for {stands_for[domain]}, and {', '.join(names)} for it")
    return {domain: tuple(names) for domain, names in together.items()}


def by_domain(addresses: Mapping[Address, str]) -> Listed:
    """Addresses by domain, with words that say that it is the domain which grants them."""
    listed: dict[str, dict[Address, str]] = {}
    for address, words in addresses.items():
        domain = domain_of(address)
        listed.setdefault(domain, {})[address] = f"domain {domain} (listed), which holds {words}"
    return listed
