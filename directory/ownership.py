"""Ownership: which addresses an entry of a directory grants, and whether a principal owns one.

Knows mailboxes, aliases, shared addresses, whole domains and the aliases of domains. Must not know where
entries come from (a file, LDAP), nor what is done to somebody who does not own an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from directory.address import (
    Malformed,
    Rules,
    domain_of,
    is_literal,
    is_routed,
    parse,
    parse_domain,
    without_extension,
)
from directory.identity import Address, Principal

#: How much of a domain is owned: any address in it, or each that some principal has listed there.
Extent = Literal["any", "listed"]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a directory lists for one principal, as it is written there.

    `holder` names the principal in the words of ownership (``login alice``). `aliases` may be bare local
    parts, which stand at the domains of the mailboxes. `mailbox` is the word for the first list (``address``
    for a principal that has no mailboxes).
    """

    holder: str
    mailboxes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    domains: Mapping[str, Extent] = field(default_factory=dict)
    mailbox: str = "mailbox"


@dataclass(frozen=True, slots=True)
class Grants:
    """What a Listing grants: each address and domain with the words that say which entry gives it.

    `own` are mailboxes and aliases, `shared` the addresses that others may hold as well, `any` and `listed`
    the whole domains. `domain` is the primary one, ``""`` if there is none.
    """

    own: Mapping[Address, str]
    shared: Mapping[Address, str]
    any: Mapping[str, str]
    listed: Mapping[str, str]
    domain: str


#: The aliases of each domain, all in A-labels.
DomainAliases = Mapping[str, tuple[str, ...]]


def expand(listing: Listing, aliases: DomainAliases, rules: Rules) -> Grants:
    """What `listing` grants, mailboxes, aliases and whole domains at every alias of their domain too.

    A shared address stands exactly where it is written. Raises Malformed for an address that is none.
    """
    mailboxes = [parse_entry(text, rules) for text in listing.mailboxes]
    homes = tuple(dict.fromkeys(domain_of(mailbox) for mailbox in mailboxes))
    own: dict[Address, str] = {}
    for mailbox in mailboxes:
        _grant(own, mailbox, listing.mailbox, listing.holder, aliases)
    for text in listing.aliases:
        for alias in _alias(text, homes, rules):
            _grant(own, alias, "alias", listing.holder, aliases)
    shared: dict[Address, str] = {}
    for text in listing.shared:
        address = parse_entry(text, rules)
        shared[address] = f"shared address {address} of {listing.holder}"
    whole: dict[Extent, dict[str, str]] = {"any": {}, "listed": {}}
    for name, extent in listing.domains.items():
        domain = parse_domain(name)
        words = f"domain {domain} ({extent}) of {listing.holder}"
        whole[extent][domain] = words
        for other in aliases.get(domain, ()):
            whole[extent].setdefault(other, f"{words} at {other}, alias of {domain}")
    primary = next(iter((*homes, *map(domain_of, own), *whole["any"], *whole["listed"])), "")
    return Grants(own, shared, whole["any"], whole["listed"], primary)


def narrow(principal: Principal, senders: Iterable[Address], rules: Rules) -> Principal:
    """`principal` as an app password narrows it: of `senders` it may use those that it may use anyway, in the
    envelope and in From, exactly as they are written, and nothing else."""
    senders = [sender for sender in senders if sender]
    owned = {sender: owns(principal, sender, rules) for sender in senders}
    authors = {sender: owns_author(principal, sender, rules) for sender in senders}
    return replace(
        principal,
        addresses={sender: words for sender, words in owned.items() if words is not None},
        domains={},
        null_sender=False,
        authors={sender: words for sender, words in authors.items() if words is not None},
        author_domains={},
    )


def parse_entry(text: str, rules: Rules) -> Address:
    """The address that an entry may list: one that somebody can own. Raises Malformed."""
    address = parse(text, rules)
    if not address or is_literal(address):
        raise Malformed("the null sender and address literals belong to nobody")
    if address.startswith("*@"):
        raise Malformed("a whole domain stands under domains, as `example.org: any`")
    return address


def _alias(text: str, homes: Iterable[str], rules: Rules) -> list[Address]:
    if "@" in text:
        return [parse_entry(text, rules)]
    if not homes:
        raise Malformed("an alias without a domain needs a mailbox, whose domain it takes")
    return [parse_entry(f"{text}@{home}", rules) for home in homes]


def _grant(
    into: dict[Address, str], address: Address, word: str, holder: str, aliases: DomainAliases
) -> None:
    local, _, domain = address.rpartition("@")
    into.setdefault(address, f"{word} {local} of {holder} at {domain}")
    for other in aliases.get(domain, ()):
        words = f"{word} {local} of {holder} at {other}, alias of {domain}"
        into.setdefault(Address(f"{local}@{other}"), words)


def owns(principal: Principal, address: Address, rules: Rules) -> str | None:
    """The words saying which entry lets `principal` use `address` in the envelope, or None when none does.

    `address` is in normal form; the null sender is owned by nobody, yet some principals may use it. Domains
    are compared whole: no parent, no subdomain. Percent and bang forms are owned by an exact entry only.
    """
    if not address:
        return f"null_sender of {principal.kind} {principal.name}" if principal.null_sender else None
    return _find(principal.addresses, principal.domains, address, rules)


def owns_author(principal: Principal, address: Address, rules: Rules) -> str | None:
    """The same for `address` in the visible From, where an entry may say more, or less (`author:`)."""
    granted = _find(principal.authors, principal.author_domains, address, rules) if address else None
    if granted is not None or principal.only_authors or not address:
        return granted
    return owns(principal, address, rules)


def _find(
    addresses: Mapping[Address, str], domains: Mapping[str, str], address: Address, rules: Rules
) -> str | None:
    if is_literal(address):
        return None
    granted = addresses.get(address)
    if granted is not None:
        return granted
    if is_routed(address):
        return None
    base = without_extension(address, rules)
    if base is not None:
        granted = addresses.get(base)
        if granted is not None:
            return f"{granted}, with an address extension"
    return domains.get(domain_of(address))
