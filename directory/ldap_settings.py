"""The settings section ``directory.ldap``: servers, service account, preset and what differs from it.

Knows the keys, their defaults and which of them exclude each other. Must not know how a directory is asked.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from directory.address import parse_domain
from directory.filters import check_dn
from directory.identity import normal_fingerprint
from directory.ownership import Extent
from directory.roll import parse_network
from directory.servers import Server
from directory.shape import Shape, StatusTest, check_filters, merge, parse_kind, parse_role
from sidecar.settings import Secret, SettingsError, load

PRESETS = Path(__file__).parent / "presets"
NAMES = ("openldap", "389ds", "active-directory", "freeipa")
_URL = re.compile(r"(ldaps?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?/?")


def parse_url(text: str) -> str:
    """A server as ``ldaps://host[:port]`` or ``ldap://host[:port]``. Raises ValueError."""
    match = _URL.fullmatch(text)
    if match is None or not 0 < int(match[3] or 1) < 65536:
        raise ValueError(f"{text} is no server: write ldaps://ldap.example.org, or ldap:// with start_tls")
    return text


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One server."""

    SCALAR: ClassVar[str] = "url"

    url: str = field(
        metadata={"parse": parse_url, "help": "`ldaps://host[:port]`, or `ldap://` with start_tls"}
    )
    weight: int = field(
        default=0, metadata={"help": "its share of the requests; all 0: the first that answers"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1000:
            raise ValueError("weight is 0 to 1000")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """A host that is known from the settings: what it is known by, and what it may use."""

    network: str = field(
        default="", metadata={"parse": lambda text: str(parse_network(text)), "help": "address or network"}
    )
    fingerprints: tuple[str, ...] = field(
        default=(), metadata={"parse": normal_fingerprint, "help": "of its certificate or public key"}
    )
    addresses: tuple[str, ...] = field(default=(), metadata={"help": "addresses that it may use"})
    domains: dict[str, Extent] = field(
        default_factory=dict,
        metadata={"parse_key": parse_domain, "help": "`any` address, or the `listed` ones"},
    )
    plan: str = field(default="", metadata={"help": "its limits; else as `directory.plans` says"})
    null_sender: bool = field(default=False, metadata={"help": "it may send with the null sender"})

    def __post_init__(self) -> None:
        if bool(self.network) == bool(self.fingerprints):
            raise ValueError("a host has either a network or fingerprints")


def parse_preset(text: str) -> str:
    """The name of a preset, or the path of a file of one's own. Raises ValueError."""
    if text not in NAMES and not text.startswith("/"):
        raise ValueError(f"{text} is no preset: {', '.join(NAMES)}, or the whole path of a file like them")
    return text


def preset(name: str) -> Shape:
    """The preset of this name or in this file. Raises ValueError."""
    try:
        return load(PRESETS / f"{name}.yaml" if name in NAMES else Path(name), Shape)
    except SettingsError as wrong:
        raise ValueError(f"the preset {name} is broken: {wrong}") from None


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """The section ``directory.ldap``. `servers` and `base` are needed as soon as the kind is ldap."""

    preset: str = field(
        default="openldap",
        metadata={
            "parse": parse_preset,
            "help": f"filters, attributes, tests of an account: {', '.join(NAMES)}, or the path of your own",
        },
    )
    servers: tuple[ServerSettings, ...] = field(default=(), metadata={"help": "in the order of trying them"})
    start_tls: bool = field(
        default=False, metadata={"help": "StartTLS on ldap:// servers, before anything else"}
    )
    ca_file: Path | None = field(default=None, metadata={"help": "the CAs to trust; none: the system's"})
    insecure: bool = field(
        default=False, metadata={"help": "allow ldap:// without TLS: passwords in clear text"}
    )
    bind_dn: str = field(default="", metadata={"help": "the service account that searches; none: anonymous"})
    password: Secret | None = field(default=None, metadata={"help": "its password"})
    base: str = field(default="", metadata={"help": "where people are searched for"})
    groups_base: str = field(default="", metadata={"help": "where groups are searched for; none: at base"})
    hosts_base: str = field(default="", metadata={"help": "where hosts and domains are kept; none: at base"})
    dn_template: str = field(
        default="",
        metadata={"help": "a login's name, as uid={login},ou=people,…: saves the search before a bind"},
    )
    filters: dict[str, str] = field(
        default_factory=dict, metadata={"parse_key": parse_kind, "help": "in place of the preset's"}
    )
    attributes: dict[str, tuple[str, ...]] = field(
        default_factory=dict, metadata={"parse_key": parse_role, "help": "in place of the preset's"}
    )
    status: tuple[StatusTest, ...] = field(
        default=(), metadata={"help": "in place of the preset's, if there are any"}
    )
    submitter_at: Literal["", "user", "group"] = field(
        default="", metadata={"help": "where the filter submitter is applied; none: as the preset says"}
    )
    submission_group: str = field(default="", metadata={"help": "only its members may submit"})
    hosts: dict[str, HostSettings] = field(
        default_factory=dict, metadata={"help": "hosts that LDAP does not hold"}
    )
    connections: int = field(default=8, metadata={"help": "kept for password checks, per server"})
    searches: int = field(default=3, metadata={"help": "that run at the same time"})

    def __post_init__(self) -> None:
        check_filters(self.filters)
        if self.preset not in NAMES:
            preset(self.preset)  # which is read again where it is used
        if self.dn_template:
            try:
                check_dn(self.dn_template, ("login", "local", "domain"))
            except ValueError as wrong:
                raise ValueError(f"dn_template {wrong}") from None
        for server in self.servers:
            self._check(server.url)
        if bool(self.bind_dn) != (self.password is not None):
            raise ValueError("bind_dn and password go together; neither: searches are anonymous")
        if self.password is not None and not self.password.reveal():
            raise ValueError("the password of the service account is empty, which would bind as nobody")
        if not (1 <= self.connections <= 256 and 1 <= self.searches <= 64):
            raise ValueError("connections is 1 to 256, searches 1 to 64")

    def _check(self, url: str) -> None:
        if url.startswith("ldaps:") and self.start_tls:
            raise ValueError(f"{url}: ldaps has TLS from the start; start_tls is for ldap://")
        if url.startswith("ldap:") and not (self.start_tls or self.insecure):
            raise ValueError(
                f"{url} would send passwords in clear text: use ldaps://, start_tls: true,"
                " or, on a network that nobody else reads, insecure: true"
            )

    @property
    def shape(self) -> Shape:
        """The preset with what differs from it."""
        shape = merge(preset(self.preset), self.filters, self.attributes)
        at = self.submitter_at or shape.submitter_at
        return Shape(shape.filters, shape.attributes, self.status or shape.status, at)

    def open_servers(self) -> tuple[Server, ...]:
        """The servers, each with the context that verifies it. Raises OSError for a CA file that is none."""
        context = None
        if not all(_is_plain(server.url, self.start_tls) for server in self.servers):
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        file = str(self.ca_file or "")
        return tuple(_server(server.url, self.start_tls, context, file) for server in self.servers)


def _is_plain(url: str, start_tls: bool) -> bool:
    return url.startswith("ldap:") and not start_tls


def _server(url: str, start_tls: bool, context: ssl.SSLContext | None, ca_file: str) -> Server:
    match = _URL.fullmatch(url)
    assert match is not None
    scheme, host, port = match.groups()
    number = int(port or (636 if scheme == "ldaps" else 389))
    host = str(ipaddress.ip_address(host[1:-1])) if host.startswith("[") else host
    if _is_plain(url, start_tls):
        return Server(host, number, "none", None)
    return Server(host, number, "ldaps" if scheme == "ldaps" else "starttls", context, ca_file)
