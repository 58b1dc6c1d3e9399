"""Hosts of an LDAP directory: from entries and settings to a roll of networks and certificates.

Knows what a host is known by, and that none may stand twice. Must not know how entries are found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from directory.address import Malformed
from directory.drafts import Draft, Reading, Terms
from directory.identity import Principal, normal_fingerprint
from directory.ldap_settings import HostSettings
from directory.ownership import Listing, expand
from directory.people import Entry, Listed, host_grants
from directory.roll import IPNetwork, Roll, parse_network
from directory.shape import Shape


@dataclass(frozen=True, slots=True)
class Background:
    """What no login leads to: aliases of domains, hosts, and every address of domains that are listed.

    `reading` has all aliases in it; `twice` are hosts that stand in more than one place.
    """

    reading: Reading
    roll: Roll = field(default_factory=Roll)
    twice: frozenset[str] = frozenset()
    listed: Listed = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Hosts:
    """Hosts while they are collected."""

    drafts: list[Draft] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def add_entry(hosts: Hosts, entry: Entry, shape: Shape, reading: Reading) -> None:
    grants, notes = host_grants(entry, shape, reading)
    hosts.notes += notes
    plan = next(iter(entry.texts(shape.names("plan"))), "")
    null = "true" in (text.lower() for text in entry.texts(shape.names("null_sender")))
    terms = Terms(plan, null, groups=entry.texts(shape.names("groups")))
    for text in entry.texts(shape.names("network")):
        try:
            name = str(parse_network(text))
        except ValueError as wrong:
            hosts.notes.append(f"{entry.dn}: {text}: {wrong}")
            continue
        hosts.drafts.append(Draft("network", entry.dn, name, 0, grants, terms))
    fingerprints = []
    for text in entry.texts(shape.names("fingerprint")):
        try:
            fingerprints.append(normal_fingerprint(text))
        except ValueError as wrong:
            hosts.notes.append(f"{entry.dn}: {wrong}")
    if fingerprints:
        names = tuple(fingerprints)
        hosts.drafts.append(Draft("certificate", entry.dn, names[0], 0, grants, terms, names))


def add_host(hosts: Hosts, label: str, host: HostSettings, reading: Reading) -> None:
    listing = Listing(f"host {label}", host.addresses, domains=host.domains, mailbox="address")
    try:
        grants = expand(listing, reading.aliases, reading.rules)
    except Malformed as wrong:
        hosts.notes.append(f"host {label}: {wrong}")
        return
    terms = Terms(host.plan, host.null_sender)
    if host.network:
        hosts.drafts.append(Draft("network", label, host.network, 0, grants, terms))
    else:
        names = host.fingerprints
        hosts.drafts.append(Draft("certificate", label, names[0], 0, grants, terms, names))


def put_together(hosts: Hosts, reading: Reading, listed: Listed) -> Background:
    networks: list[tuple[IPNetwork, Principal]] = []
    certificates: dict[str, Principal] = {}
    seen: set[str] = set()
    twice: set[str] = set()
    for draft in hosts.drafts:
        principal = _principal(draft, reading, listed)
        if draft.kind == "network":
            networks.append((parse_network(draft.name), principal))
        for key in draft.fingerprints or (draft.name,):
            (twice if key in seen else seen).add(key)
        certificates.update(dict.fromkeys(draft.fingerprints, principal))
    hosts.notes += [f"{name} stands at more than one host" for name in sorted(twice)]
    roll = Roll({}, certificates, networks)
    return Background(reading, roll, frozenset(twice), listed, tuple(hosts.notes))


def _principal(draft: Draft, reading: Reading, listed: Listed) -> Principal:
    addresses = {**draft.grants.shared, **draft.grants.own}
    for domain in draft.grants.listed:
        for address, words in listed.get(domain, {}).items():
            addresses.setdefault(address, words)
    domain = reading.primary(draft.grants.domain)
    plan, plan_from = reading.plans.choose(draft.terms.plan, draft.terms.groups, domain)
    return Principal(
        draft.kind,
        draft.name,
        addresses,
        draft.grants.any,
        domain,
        plan,
        draft.terms.null_sender,
        terms_url=reading.terms_url,
        plan_from=plan_from,
        fingerprints=draft.fingerprints,
    )
