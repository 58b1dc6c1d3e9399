"""People and hosts: what the entries of an LDAP directory come to, by the shape that they have.

Knows how values of attributes make a principal, its state and the words of ownership. Must not know how
entries are found, nor LDAP's messages. `now` is in seconds since 1970.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from directory.address import Malformed
from directory.drafts import Reading
from directory.identity import Address, BadLogin, Principal, Reason, normal_login
from directory.ownership import Extent, Grants, Listing, expand
from directory.plans import names_of_groups
from directory.roll import parse_network
from directory.shape import Shape
from directory.terms import covers
from directory.troubles import Puzzling

Listed = Mapping[str, Mapping[Address, str]]
#: What an entry is to the principal → how its addresses are said to be held.
_HOLDERS = {"": "{}", "group": "group {}", "delegate": "{} (as its delegate)"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its name and its values by attribute, attributes in lower case."""

    dn: str
    values: Mapping[str, tuple[bytes, ...]]

    def texts(self, names: Iterable[str]) -> tuple[str, ...]:
        """The values of these attributes, in order; what is not UTF-8 is left out."""
        found = (value for name in names for value in self.values.get(name.lower(), ()))
        return tuple(text for value in found if (text := _text(value)))


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""


@dataclass(frozen=True, slots=True)
class Person(Principal):
    """A login's principal with what it takes to check its password.

    `stopped` says why nobody may log in as it, None if it may. `puzzle` says why nothing can be said about
    what it owns, ``""`` if it can. `notes` are values that were left out.
    """

    dn: str = ""
    stopped: Reason | None = None
    puzzle: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Around:
    """What was found around a person's entry: groups with an address, and entries that name it a delegate."""

    groups: tuple[Entry, ...] = ()
    delegators: tuple[Entry, ...] = ()
    may_submit: bool = True


@dataclass(slots=True)
class _Pile:
    """Grants while they are collected, and what was left out."""

    own: dict[Address, str] = field(default_factory=dict)
    shared: dict[Address, str] = field(default_factory=dict)
    any: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    domain: str = ""
    notes: list[str] = field(default_factory=list)

    def add(self, grants: Grants, *, shared: bool = False) -> None:
        into = self.shared if shared else self.own
        for address, words in {**grants.shared, **grants.own}.items():
            into.setdefault(address, words)
        self.any.update(grants.any)
        self.listed.update(grants.listed)
        self.domain = self.domain or grants.domain


def login_of(entry: Entry, shape: Shape) -> str:
    """The login in normal form. Raises Puzzling when there is none, or more than one to choose from."""
    texts = entry.texts(shape.names("login"))
    if len(texts) > 1:
        rdn = entry.dn.partition(",")[0].partition("=")[2].lower()
        texts = tuple(text for text in texts if text.lower() == rdn)
    if len(texts) != 1:
        names = ", ".join(shape.names("login"))
        raise Puzzling(f"{entry.dn} has no single {names}: may the service account read it?")
    try:
        return normal_login(texts[0])
    except BadLogin as wrong:
        raise Puzzling(f"{entry.dn}: {wrong}") from None


def person(
    entry: Entry, around: Around, shape: Shape, reading: Reading, listed: Listed, now: float
) -> Person:
    """The person that an entry stands for. Raises Puzzling when it has no login of its own."""
    name = login_of(entry, shape)
    pile = _Pile()
    _addresses(pile, entry, shape, reading, "")
    found = bool(pile.own)
    for group in around.groups:
        _addresses(pile, group, shape, reading, "group", shared=True)
    for other in around.delegators:
        _addresses(pile, other, shape, reading, "delegate", shared=True)
    _domains(pile, entry, shape, reading)
    stopped = state(entry, shape, now, pile.notes) or (None if around.may_submit else "not_in_group")
    nothing = not (found or pile.shared or pile.any or pile.listed)
    names = ", ".join(shape.names("mailboxes", "aliases", "proxies"))
    domain = reading.primary(pile.domain)
    groups = (*entry.texts(shape.names("groups")), *(group.dn for group in around.groups))
    named = next(iter(entry.texts(shape.names("plan"))), "")
    plan, plan_from = reading.plans.choose(named, groups, domain)
    puzzle = f"{entry.dn} has none of {names}: may the service account read them?" if nothing else ""
    return Person(
        "login",
        name,
        _with_listed(pile, listed),
        pile.any,
        domain,
        plan,
        "true" in (text.lower() for text in entry.texts(shape.names("null_sender"))),
        stopped is not None,
        _has_accepted(entry, shape, reading),
        reading.terms_url,
        plan_from=plan_from,
        networks=_networks(entry, shape, pile.notes),
        groups=names_of_groups(groups),
        dn=entry.dn,
        stopped=stopped,
        puzzle=puzzle,
        notes=tuple(pile.notes),
    )


def _networks(entry: Entry, shape: Shape, notes: list[str]) -> tuple[str, ...]:
    """Where the login may come from. Raises Puzzling when no value says so: that is not everywhere."""
    found, texts = [], entry.texts(shape.names("networks"))
    for text in texts:
        try:
            found.append(str(parse_network(text)))
        except ValueError as wrong:
            notes.append(f"{entry.dn}: {text}: {wrong}")
    if texts and not found:
        raise Puzzling(f"{entry.dn} says where its login may come from, and names no network")
    return tuple(found)


def host_grants(entry: Entry, shape: Shape, reading: Reading) -> tuple[Grants, tuple[str, ...]]:
    """What a host's entry grants, and what was left out of it."""
    pile = _Pile()
    _addresses(pile, entry, shape, reading, "")
    _domains(pile, entry, shape, reading)
    return Grants(pile.own, pile.shared, pile.any, pile.listed, pile.domain), tuple(pile.notes)


def addresses_of(entry: Entry, shape: Shape, reading: Reading) -> Mapping[Address, str]:
    """Every address that an entry lists, with its words."""
    pile = _Pile()
    _addresses(pile, entry, shape, reading, "")
    return pile.own


def state(entry: Entry, shape: Shape, now: float, notes: list[str] | None = None) -> Reason | None:
    """What the tests of the shape say about an account, the first that holds; None when none does.

    A value that a test cannot read stops nobody and is noted.
    """
    for test in shape.status:
        for text in entry.texts((test.attribute,)):
            try:
                if test.holds(text, now):
                    return test.state
            except (ValueError, OverflowError) as wrong:
                if notes is not None:
                    notes.append(f"{test.attribute} of {entry.dn}: {wrong}")
    return None


def _addresses(
    pile: _Pile, entry: Entry, shape: Shape, reading: Reading, what: str, *, shared: bool = False
) -> None:
    """Put all addresses of `entry` on the pile; `what` it is to the principal goes into the words."""
    holder = _HOLDERS[what].format(entry.dn)
    homes: list[str] = []

    def grant(attribute: str, text: str) -> None:
        if what == "group":  # an address that several share stands where it is written
            listing = Listing(f"{holder} ({attribute})", shared=(text,))
        else:
            listing = Listing(holder, (text,), mailbox=attribute)
        try:
            grants = expand(listing, reading.aliases, reading.rules)
        except Malformed as wrong:
            pile.notes.append(f"{attribute} of {entry.dn}: {wrong}")
            return
        pile.add(grants, shared=shared)
        homes.append(grants.domain)

    for attribute in shape.names("mailboxes"):
        for text in entry.texts((attribute,)):
            grant(attribute, text)
    proxies = [(name, text) for name in shape.names("proxies") for text in entry.texts((name,))]
    for attribute, text in sorted(proxies, key=lambda item: not item[1].startswith("SMTP:")):
        if text[:5].lower() == "smtp:":
            grant(attribute, text[5:])
    at = tuple(dict.fromkeys(homes))
    for attribute in shape.names("aliases"):
        for text in entry.texts((attribute,)):
            for full in (text,) if "@" in text else (f"{text}@{home}" for home in at):
                grant(attribute, full)


def _domains(pile: _Pile, entry: Entry, shape: Shape, reading: Reading) -> None:
    for text in entry.texts(shape.names("domains")):
        domain, _, extent = text.partition(" ")
        if (extent or "listed") not in ("any", "listed"):
            pile.notes.append(f"{text!r} of {entry.dn}: after a domain comes any or listed")
            continue
        listing = Listing(entry.dn, domains={domain: cast(Extent, extent or "listed")})
        try:
            pile.add(expand(listing, reading.aliases, reading.rules))
        except Malformed as wrong:
            pile.notes.append(f"{text!r} of {entry.dn}: {wrong}")


def _with_listed(pile: _Pile, listed: Listed) -> Mapping[Address, str]:
    addresses: Mapping[Address, str] = {**pile.shared, **pile.own}
    if pile.listed:
        return ChainMap(dict(addresses), *(dict(listed.get(domain, {})) for domain in pile.listed))
    return addresses


def _has_accepted(entry: Entry, shape: Shape, reading: Reading) -> bool:
    if not (names := shape.names("terms")):
        return not reading.terms_required
    return any(covers(text, reading.terms_version) for text in entry.texts(names))
