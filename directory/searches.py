"""The searches that answer a question: a person with what is around its entry, and what no login leads to.

Knows which filter is sent where. Must not know connections, threads, caches or the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal, Protocol

from directory.domains import alias_pairs, by_domain, with_pairs
from directory.drafts import Reading
from directory.filters import fill_dn, fill_filter, names_of
from directory.hosts import Background, Hosts, add_entry, add_host, put_together
from directory.identity import Address
from directory.ldap_settings import LdapSettings
from directory.people import (
    Around,
    Entry,
    Listed,
    Person,
    addresses_of,
    host_grants,
    person,
)
from directory.shape import Shape
from directory.troubles import Puzzling, Refused

NO_SUCH_OBJECT = 32


class Searching(Protocol):
    """A connection that is bound as the service."""

    def search(
        self,
        base: str,
        filter: str,
        attributes: Iterable[str],
        *,
        scope: Literal["BASE", "LEVEL", "SUBTREE"] = "SUBTREE",
        most: int = 0,
    ) -> tuple[Entry, ...]: ...

    def enumerate(self, base: str, filter: str, attributes: Iterable[str]) -> Iterator[Entry]: ...


class Searches:
    """The searches of one section of settings. Without `owning` nobody asks what a person owns: what does not
    tell who it is and which plan it has is not searched for. With `groups` they are known of everybody."""

    def __init__(
        self, settings: LdapSettings, reading: Reading, *, owning: bool = True, groups: bool = False
    ) -> None:
        self.settings = settings
        self._owning = owning
        # memberOf can be longer than all the rest of an entry: only those pay for it who need it.
        shape = settings.shape
        by_group = groups or bool(reading.plans.groups)
        self._sees_groups = owning or by_group
        needs_groups = by_group or "{groups}" in shape.filters.get("groups", "")
        self.shape: Shape = shape if needs_groups else shape.without("groups")
        self._wanted = self.shape.of_people(() if owning else ("null_sender", "terms"))
        self.reading = reading

    @property
    def has_background(self) -> bool:
        """Whether there is anything in LDAP that no login leads to."""
        kinds = ["domain_aliases"]
        if self._owning:
            kinds += ["hosts", *(["users"] if self._lists_domains else [])]
        return any(self.shape.filters.get(kind) for kind in kinds)

    @property
    def _lists_domains(self) -> bool:
        hosts = self.settings.hosts.values()
        return bool(self.shape.names("domains")) or any("listed" in h.domains.values() for h in hosts)

    def template_dn(self, login: str) -> str:
        """The name that the settings' template makes of a login, ``""`` without a template."""
        return fill_dn(self.settings.dn_template, names_of(login)) if self.settings.dn_template else ""

    def find_person(self, session: Searching, login: str, background: Background) -> Person | None:
        """The person behind a login in normal form. Raises Unavailable; Puzzling for what cannot be."""
        entry = self._entry(session, login, self._wanted)
        if entry is None:
            return None
        around = self._around(session, entry, login)
        found = person(entry, around, self.shape, background.reading, background.listed, time.time())
        if found.name != login:  # typed as an address: the name must lead here too, and nowhere else
            named = self._entry(session, found.name, ("1.1",))
            if named is None or named.dn != entry.dn:
                other = named.dn if named is not None else "nobody"
                raise Puzzling(f"{entry.dn} is called {found.name}, and by that name one finds {other}")
        return found if self._owning else replace(found, puzzle="")

    def _entry(self, session: Searching, login: str, wanted: tuple[str, ...]) -> Entry | None:
        user = fill_filter(self.shape.filters["user"], names_of(login))
        if not self.settings.dn_template:
            entries = session.search(self.settings.base, user, wanted, most=1)
            return entries[0] if entries else None
        try:
            entries = session.search(self.template_dn(login), user, wanted, scope="BASE", most=1)
        except Refused as wrong:
            if wrong.code == NO_SUCH_OBJECT:
                return None
            raise
        return entries[0] if entries else None

    def _around(self, session: Searching, entry: Entry, login: str) -> Around:
        places = {
            "dn": entry.dn,
            "login": login,
            # Nobody is a group: the name of the entry itself finds none.
            "groups": entry.texts(self.shape.names("groups")) or entry.dn,
        }
        base = self.settings.groups_base or self.settings.base
        wanted = self.shape.names("mailboxes", "aliases", "proxies")

        def look(kind: str, where: str) -> tuple[Entry, ...]:
            template = self.shape.filters.get(kind, "")
            return session.search(where, fill_filter(template, places), wanted) if template else ()

        return Around(
            look("groups", base) if self._sees_groups else (),
            look("delegates", self.settings.base) if self._owning else (),
            self._may_submit(session, entry.dn, login),
        )

    def _may_submit(self, session: Searching, dn: str, login: str) -> bool:
        """A group that is not there is a mistake of the settings: Refused, and nobody is judged by it."""
        places = {"dn": dn, "login": login, "group": self.settings.submission_group}
        template = self.shape.filters.get("submitter", "")
        if not template or ("{group}" in template and not places["group"]):
            return True
        at = places["group"] if self.shape.submitter_at == "group" else dn
        may = bool(session.search(at, fill_filter(template, places), ("1.1",), scope="BASE"))
        if not may and at == dn and "{group}" in template:
            self.find_group(session)
        return may

    def find_group(self, session: Searching) -> None:
        """Raise Refused unless the submission group is there and may be read: its name may be misspelt."""
        session.search(self.settings.submission_group, "(objectClass=*)", ("1.1",), scope="BASE")

    def read_background(self, session: Searching) -> Background:
        """Everything that no login leads to. Raises Unavailable; Puzzling for what cannot be."""
        base = self.settings.hosts_base or self.settings.base
        pairs: dict[str, str] = {}
        hosts = Hosts()
        if self.shape.filters.get("domain_aliases"):
            names = self.shape.names("alias_domain", "alias_target")
            entries = session.enumerate(base, self.shape.filters["domain_aliases"], names)
            pairs, notes = alias_pairs(entries, self.shape)
            hosts.notes += notes
        reading = replace(self.reading, aliases=with_pairs(self.reading.aliases, pairs))
        if self._owning and self.shape.filters.get("hosts"):
            for entry in session.enumerate(base, self.shape.filters["hosts"], self.shape.wanted):
                add_entry(hosts, entry, self.shape, reading)
        for label, host in self.settings.hosts.items():
            add_host(hosts, label, host, reading)
        return self._background(session, hosts, reading)

    def static_background(self) -> Background:
        """The background of a directory that holds none: hosts of the settings alone."""
        hosts = Hosts()
        for label, host in self.settings.hosts.items():
            add_host(hosts, label, host, self.reading)
        return put_together(hosts, self.reading, {})

    def _background(self, session: Searching, hosts: Hosts, reading: Reading) -> Background:
        listed: Listed = {}
        users, base = self.shape.filters.get("users"), self.settings.base
        if users and self._owning and self._somebody_lists(session, hosts, reading):
            addresses: dict[Address, str] = {}
            names = self.shape.names("mailboxes", "aliases", "proxies")
            for entry in session.enumerate(base, users, names):
                addresses.update(addresses_of(entry, self.shape, reading))
            listed = by_domain(addresses)
        return put_together(hosts, reading, listed)

    def _somebody_lists(self, session: Searching, hosts: Hosts, reading: Reading) -> bool:
        """Whether anybody may use every listed address of a domain: only then all people are read."""
        if any(draft.grants.listed for draft in hosts.drafts):
            return True
        names = self.shape.names("domains")
        if not names:
            return False
        some = "".join(f"({name}=*)" for name in names)
        filter = f"(&{self.shape.filters['users']}(|{some}))"
        people = session.enumerate(self.settings.base, filter, names)
        return any(host_grants(entry, self.shape, reading)[0].listed for entry in people)
