"""Who may come in with which kind of password and from where, once it is known who it is.

Knows the networks of logins and plans, and who must use an app password. Must not know whether a password is
right, nor the ledger's blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from directory.identity import Principal
from directory.roll import parse_client

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class Admissions:
    """`networks` by plan; `only_logins`, `only_plans`, members of `only_groups` must use an app password."""

    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_logins: frozenset[str] = frozenset()
    only_plans: frozenset[str] = frozenset()
    only_groups: frozenset[str] = frozenset()

    def needs_app_password(self, name: str, principal: Principal | None) -> bool:
        """Whether the directory's password is not accepted for this login."""
        if name in self.only_logins or principal is None:
            return name in self.only_logins
        return principal.plan in self.only_plans or not principal.groups.isdisjoint(self.only_groups)

    def may_come_from(self, principal: Principal | None, rip: bytes) -> bool:
        """Whether the login may come from this client address: its own networks count before its plan's, and
        without any it may come from everywhere."""
        if principal is None:
            return True
        wanted = principal.networks or self.networks.get(principal.plan, ())
        return is_within(wanted, rip)


def is_within(networks: tuple[str, ...], rip: bytes) -> bool:
    """Whether a client address is in one of the networks; without any everything is."""
    if not networks:
        return True
    address = parse_client(rip[:64].decode("ascii", "replace"))
    return address is not None and any(address in network for network in _parsed(networks))


@lru_cache(maxsize=1024)
def _parsed(networks: tuple[str, ...]) -> Networks:
    return tuple(ip_network(text) for text in networks)
