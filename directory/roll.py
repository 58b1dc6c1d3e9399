"""The roll: every principal of a directory at one moment, and who answers a question.

Knows logins, fingerprints and networks as keys; the longest listed prefix wins. Never changes once it is
made. Must not know where it was read from, nor judge a password.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from directory.identity import Certificate, Login, Network, Principal, Question

IPNetwork = IPv4Network | IPv6Network


def parse_client(text: str) -> IPv4Address | IPv6Address | None:
    """A client address as Postfix sends it, None for what is none (``unknown``).

    An IPv4-mapped address is the IPv4 address that it maps; a zone (``%eth0``) is dropped.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> IPNetwork:
    """A network in CIDR form, or one address. Raises ValueError for what is none and for half the world."""
    network = ip_network(text, strict=False)
    if "/" in text and ip_network(text, strict=False).network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f"has host bits set; the network is {network}")
    if network.prefixlen < (8 if network.version == 4 else 7):
        raise ValueError("holds so many hosts that anybody could relay; list the hosts that are yours")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("is an IPv4 network in IPv6 clothes; write it as IPv4, which matches both")
    if "%" in text:
        raise ValueError("a zone (%) names no network")
    return network


class Networks:
    """Principals by network, the longest prefix first."""

    def __init__(self, entries: Iterable[tuple[IPNetwork, Principal]]) -> None:
        tables: dict[tuple[int, int], dict[int, Principal]] = {}
        for network, principal in entries:
            shift = network.max_prefixlen - network.prefixlen
            table = tables.setdefault((network.version, shift), {})
            table[int(network.network_address) >> shift] = principal
        self._tables = sorted(tables.items())  # the smallest shift is the longest prefix

    def find(self, text: str) -> Principal | None:
        """The principal of the longest listed prefix that holds this client address, or None."""
        address = parse_client(text) if self._tables else None
        if address is None:
            return None
        number = int(address)
        for (version, shift), table in self._tables:
            if version == address.version and (found := table.get(number >> shift)) is not None:
                return found
        return None


class Roll:
    """Every principal of one reading. `hashes` holds the password hash of each login that has one."""

    def __init__(
        self,
        logins: Mapping[str, Principal] | None = None,
        certificates: Mapping[str, Principal] | None = None,
        networks: Iterable[tuple[IPNetwork, Principal]] = (),
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        entries = tuple(networks)
        self.logins = logins or {}
        self.certificates = certificates or {}
        self.hashes = hashes or {}
        self._networks = Networks(entries)
        listed = (*self.logins.values(), *self.certificates.values(), *(p for _, p in entries))
        self.principals = tuple({p.subject: p for p in listed}.values())

    def look_up(self, question: Question) -> Principal | None:
        """The principal behind `question`, or None when nothing listed answers."""
        match question:
            case Login(name):
                return self.logins.get(name)
            case Certificate(fingerprints):
                found = (self.certificates.get(fingerprint) for fingerprint in fingerprints)
                return next((principal for principal in found if principal is not None), None)
            case Network(address):
                return self._networks.find(address)
