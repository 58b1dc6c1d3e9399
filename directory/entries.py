"""The entries of a directory file: three kinds of principal, from YAML to the roll.

Knows the keys of an entry and what must not stand twice. Must not know where the file is, nor when it is
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from directory import nodes
from directory.address import Malformed, parse_domain
from directory.drafts import Authors, Draft, Reading, Terms, finish
from directory.identity import Address, Kind, normal_fingerprint, normal_login
from directory.nodes import Document, Node, Reader
from directory.ownership import Extent, Grants, Listing, expand, parse_entry
from directory.passwords import parse_hash
from directory.plans import normal_group
from directory.roll import IPNetwork, Roll, parse_network
from sidecar.problems import Problem, SettingsError

_COMMON = ("domains", "author", "plan", "groups", "null_sender", "disabled", "terms_accepted")
_KEYS: dict[Kind, tuple[str, ...]] = {
    "login": ("password", "mailboxes", "aliases", "shared", "networks", *_COMMON),
    "certificate": ("fingerprint", "fingerprints", "addresses", *_COMMON),
    "network": ("network", "addresses", *_COMMON),
}
_SECTIONS: dict[str, Kind] = {f"{kind}s": kind for kind in _KEYS}
K = TypeVar("K")


def read(text: str, file: str, reading: Reading) -> Roll:
    """The roll that the text of a directory file holds. Raises SettingsError with every mistake in it."""
    document = Document(text, file)
    entries = _Entries(Reader(file), reading)
    for section, key, value in document.entries():
        if section in _SECTIONS:
            entries.add(_SECTIONS[section], section, key, value)
    if document.root is None:
        raise SettingsError([Problem(file, 0, 0, "", "is empty; without principals it holds `logins: {}`")])
    for section, _, node in entries.reader.mapping(document.root, "", _SECTIONS):
        if not isinstance(node, nodes.Mapping):
            entries.reader.bad(node, section, "must hold keys with values")
    roll = entries.roll()
    if entries.reader.problems:
        raise SettingsError(sorted(entries.reader.problems))
    return roll


class _Entries:
    """All entries of one file while it is read."""

    def __init__(self, reader: Reader, reading: Reading) -> None:
        self.reader = reader
        self.reading = reading
        self.drafts: list[Draft] = []
        self.labels: dict[tuple[Kind, str], Node] = {}
        self.hashes: dict[str, str] = {}
        self.logins: dict[str, Draft] = {}
        self.fingerprints: dict[str, Draft] = {}
        self.networks: dict[IPNetwork, Draft] = {}
        self.owners: dict[Address, Draft] = {}

    def add(self, kind: Kind, section: str, key: Node, node: Node) -> None:
        """Read one entry."""
        label = self.reader.text(key, section)
        if label is None:
            return
        path, known = f"{section}.{label}", len(self.reader.problems)
        first = self.labels.setdefault((kind, label), key)
        if first is not key:
            self.reader.bad(key, path, f"is already set in line {first.line}")
        values = {name: value for name, _, value in self.reader.mapping(node, path, _KEYS[kind])}
        listing = self._listing(kind, label, path, values)
        try:
            grants = expand(listing, self.reading.aliases, self.reading.rules)
        except Malformed as wrong:
            grants = Grants({}, {}, {}, {}, "")
            if len(self.reader.problems) == known:  # else it only follows from what is noted already
                self.reader.bad(key, path, str(wrong))
        draft = Draft(kind, label, "", key.line, grants, self._terms(values, path))
        if "author" in values:
            draft.authors = self._authors(values["author"], f"{kind} {label}", f"{path}.author")
        keep = {"login": self._login, "certificate": self._certificate, "network": self._network}
        keep[kind](draft, values, key, path)
        if draft.name:
            self.drafts.append(draft)

    def roll(self) -> Roll:
        """All entries together."""
        principals = finish(self.drafts, self.reading)
        return Roll(
            {name: principals["login", name] for name in self.logins},
            {key: principals["certificate", draft.name] for key, draft in self.fingerprints.items()},
            [(key, principals["network", draft.name]) for key, draft in self.networks.items()],
            self.hashes,
        )

    def _terms(self, values: Mapping[str, Node], path: str) -> Terms:
        truths = {
            key: self.reader.boolean(values[key], f"{path}.{key}")
            for key in ("null_sender", "disabled", "terms_accepted")
            if key in values
        }
        plan = self.reader.text(values["plan"], f"{path}.plan") if "plan" in values else None
        return Terms(
            plan or "",
            bool(truths.get("null_sender")),
            bool(truths.get("disabled")),
            truths.get("terms_accepted"),
            self._groups(values, path),
        )

    def _groups(self, values: Mapping[str, Node], path: str) -> tuple[str, ...]:
        if "groups" not in values:
            return ()
        found = self.reader.items(values["groups"], f"{path}.groups")
        parsed = [self.reader.parsed(node, f"{path}.groups", text, normal_group) for text, node in found]
        return tuple(group for group in parsed if group is not None)

    def _listing(self, kind: Kind, label: str, path: str, values: Mapping[str, Node]) -> Listing:
        homes = "mailboxes" in values
        return Listing(
            f"{kind} {label}",
            self._addresses(values, "mailboxes" if kind == "login" else "addresses", path, homes),
            self._addresses(values, "aliases", path, homes),
            self._addresses(values, "shared", path, homes),
            self._domains(values, path),
            "mailbox" if kind == "login" else "address",
        )

    def _addresses(self, values: Mapping[str, Node], key: str, path: str, homes: bool) -> tuple[str, ...]:
        def check(text: str) -> str:
            home = "@home.invalid" if key == "aliases" and homes and "@" not in text else ""
            parse_entry(text + home, self.reading.rules)
            return text

        if key not in values:
            return ()
        found = self.reader.items(values[key], f"{path}.{key}")
        texts = [self.reader.parsed(node, f"{path}.{key}", text, check) for text, node in found]
        return tuple(text for text in texts if text is not None)

    def _domains(self, values: Mapping[str, Node], path: str) -> dict[str, Extent]:
        domains: dict[str, Extent] = {}
        if "domains" not in values:
            return domains
        for name, key, value in self.reader.mapping(values["domains"], f"{path}.domains"):
            domain = self.reader.parsed(key, f"{path}.domains", name, parse_domain)
            extent = self.reader.text(value, f"{path}.domains.{name}")
            if extent is not None and extent not in ("any", "listed"):
                self.reader.bad(value, f"{path}.domains.{name}", "must be any or listed")
            elif domain in domains:
                self.reader.bad(key, f"{path}.domains.{name}", f"says the same domain as {domain}")
            elif domain is not None and extent is not None:
                domains[domain] = cast(Extent, extent)
        return domains

    def _authors(self, node: Node, holder: str, path: str) -> Authors:
        """`only` and `also`: addresses, exactly as they are written; `domains`: any mailbox there."""
        values = {
            key: value for key, _, value in self.reader.mapping(node, path, ("only", "also", "domains"))
        }
        addresses: dict[Address, str] = {}
        for key in ("only", "also"):
            for text in self._addresses(values, key, path, False):
                address = parse_entry(text, self.reading.rules)
                addresses[address] = f"author address {address} of {holder}"
        domains: dict[str, str] = {}
        if "domains" in values:
            for text, item in self.reader.items(values["domains"], f"{path}.domains"):
                domain = self.reader.parsed(item, f"{path}.domains", text, parse_domain)
                if domain is not None:
                    domains[domain] = f"author domain {domain} of {holder}"
        return Authors(addresses, domains, "only" in values)

    def _login(self, draft: Draft, values: Mapping[str, Node], key: Node, path: str) -> None:
        name = self.reader.parsed(key, path, draft.label, normal_login)
        if name is None:
            return
        draft.name = name
        self._unique(self.logins, name, draft, key, path, "is the same login as")
        if "password" in values:
            self._password(name, values["password"], f"{path}.password")
        if "networks" in values:
            draft.networks = self._networks(values["networks"], f"{path}.networks")
        for address in draft.grants.own:
            owner = self.owners.setdefault(address, draft)
            if owner is not draft:
                text = f"{address} is already an address of login {owner.label}, in line {owner.line}"
                self.reader.bad(key, path, f"{text}; what several logins use stands under shared")
                break

    def _networks(self, node: Node, path: str) -> tuple[str, ...]:
        found = self.reader.items(node, path)
        if not found:
            self.reader.bad(node, path, "is empty: without it, AUTH may come from everywhere")
        parsed = [self.reader.parsed(item, path, text, parse_network) for text, item in found]
        return tuple(str(network) for network in parsed if network is not None)

    def _password(self, name: str, node: Node, path: str) -> None:
        encoded = self.reader.text(node, path)
        if encoded is None:
            return
        try:
            self.hashes[name] = parse_hash(encoded)
        except ValueError as wrong:  # not through parsed(), which shows the value
            self.reader.bad(node, path, str(wrong))

    def _certificate(self, draft: Draft, values: Mapping[str, Node], key: Node, path: str) -> None:
        found: list[tuple[str, Node]] = []
        if "fingerprint" in values:
            text = self.reader.text(values["fingerprint"], f"{path}.fingerprint")
            found += [(text, values["fingerprint"])] if text is not None else []
        elif "fingerprints" not in values:
            self.reader.bad(key, path, "fingerprint is required")
        if "fingerprints" in values:
            found += self.reader.items(values["fingerprints"], f"{path}.fingerprints")
        for text, node in found:
            fingerprint = self.reader.parsed(node, path, text, normal_fingerprint)
            if fingerprint is not None:
                draft.name = draft.name or fingerprint
                draft.fingerprints += (fingerprint,)
                self._unique(self.fingerprints, fingerprint, draft, node, path, "has the fingerprint of")

    def _network(self, draft: Draft, values: Mapping[str, Node], key: Node, path: str) -> None:
        if "network" not in values:
            self.reader.bad(key, path, "network is required")
            return
        node = values["network"]
        text = self.reader.text(node, f"{path}.network")
        network = None if text is None else self.reader.parsed(node, f"{path}.network", text, parse_network)
        if network is not None:
            draft.name = str(network)
            self._unique(self.networks, network, draft, node, f"{path}.network", "is the network of")

    def _unique(self, taken: dict[K, Draft], key: K, draft: Draft, node: Node, path: str, words: str) -> None:
        first = taken.setdefault(key, draft)
        if first is not draft:
            self.reader.bad(node, path, f"{words} {first.label} in line {first.line}")
