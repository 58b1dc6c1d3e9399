"""Which domains may stand in From, of any principal, and as whom.

Knows what a principal may write. Must not ask the DNS, nor know how mail is signed.
"""

from __future__ import annotations

from collections.abc import Iterable

from directory.address import domain_of, is_literal
from directory.identity import Principal

SAMPLE = 200  # local parts of a domain that are looked at

Authors = dict[str, list[str]]  # domain → local parts; none for a whole domain


def authors_of(principals: Iterable[Principal]) -> Authors:
    """Every domain that a principal may write in From, with local parts that are somebody's there."""
    found: Authors = {}
    for principal in principals:
        if principal.disabled:
            continue
        addresses, domains = [*principal.authors], [*principal.author_domains]
        if not principal.only_authors:
            addresses += principal.addresses
            domains += principal.domains
        for domain in domains:
            found.setdefault(domain, [])
        for address in addresses:
            if not is_literal(address):
                _add(found.setdefault(domain_of(address), []), address.rpartition("@")[0])
    return found


def _add(local_parts: list[str], local: str) -> None:
    if len(local_parts) < SAMPLE and local not in local_parts:
        local_parts.append(local)
