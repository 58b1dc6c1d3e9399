"""Listeners: where a sidecar is reached, and who may.

Knows addresses, modes, groups and allow-lists. Must not know sockets, Twisted, nor any protocol.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import ClassVar, Literal

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

BACKLOG = 4096  # a UNIX connect fails at once when the queue is full, and master starts many smtpd at once
LONGEST_PATH = 107  # octets, unix(7)
DOORS = ("policyd", "saslauthd", "milter")


def parse_address(text: str) -> str:
    """The normal form of ``unix:/path``, ``127.0.0.1:port`` or ``[::1]:port``. Raises ValueError."""
    if text.startswith("unix:"):
        return "unix:" + _parse_path(text[5:])
    host, port = split_host_port(text)
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


def split_host_port(text: str) -> tuple[IPAddress, int]:
    """Address and port of ``127.0.0.1:10` or ``[::1]:10``; ``localhost`` is 127.0.0.1. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{text!r} is no address; write unix:/path, 127.0.0.1:10040 or '[::1]:10040'")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host), int(port)
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; names are not looked up here") from None


def parse_local_address(text: str) -> str:
    """Like `parse_address`, and refuses what other hosts could reach."""
    address = parse_address(text)
    if not address.startswith("unix:") and not split_host_port(address)[0].is_loopback:
        raise ValueError(f"{text} can be reached by other hosts; use 127.0.0.1, '[::1]' or unix:/path")
    return address


def parse_mode(text: str) -> int:
    """A socket's mode from octal digits as chmod(1) takes them. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and set(text) <= set("01234567") and len(text) <= 4):
        raise ValueError(f"{text!r} is no mode; write it in octal, 0660")
    mode = int(text, 8)
    if mode & 0o7002:
        raise ValueError(f"{text} opens the socket to every local user; use 0660 and group: postfix")
    return mode


def parse_network(text: str) -> IPNetwork:
    """A network in CIDR form, or one address. Raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; write 192.0.2.0/24 or 192.0.2.7") from None


def _parse_door(text: str) -> str:
    if text not in DOORS:
        raise ValueError(f"unknown sidecar; allowed: {', '.join(DOORS)}")
    return text


def _parse_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"unix:{path}: the path must be absolute")
    if len(path.encode()) > LONGEST_PATH:
        raise ValueError(
            f"unix:{path} has {len(path.encode())} octets; a socket's path ends at {LONGEST_PATH}"
        )
    return path


@dataclass(frozen=True)
class Listener:
    """One place to listen at, and what is known of the requests that come in there."""

    SCALAR: ClassVar[str] = "address"

    address: str = field(
        metadata={
            "parse": parse_address,
            "help": "`unix:/path` or `127.0.0.1:port`; an entry may be just this",
        }
    )
    mode: int = field(
        default=0o660,
        metadata={"parse": parse_mode, "default": "`0660`", "help": "mode of the UNIX socket"},
    )
    group: str = field(default="", metadata={"help": "group of the UNIX socket, by name"})
    allow: tuple[IPNetwork, ...] = field(
        default=(),
        metadata={
            "parse": parse_network,
            "help": "networks that may connect over TCP; without it only loopback binds are accepted",
        },
    )
    context: Literal["submission", "mx"] = field(
        default="submission", metadata={"help": "what a request means that carries no `policy_context`"}
    )
    mta: str = field(default="", metadata={"help": "overrides the top-level `mta` for this listener"})

    def __post_init__(self) -> None:
        address = parse_address(self.address)
        object.__setattr__(self, "address", address)
        if self.is_unix:
            if self.allow:
                raise ValueError("allow is for TCP; a UNIX socket is guarded by mode and group")
        elif self.group:
            raise ValueError("group is for unix: sockets; TCP is guarded by allow")
        elif not self.allow and not split_host_port(address)[0].is_loopback:
            raise ValueError(
                f"{address} can be reached by other hosts; say who may connect: allow: [192.0.2.7]"
            )

    @property
    def is_unix(self) -> bool:
        """Whether this is a UNIX socket."""
        return self.address.startswith("unix:")

    @property
    def path(self) -> str:
        """The path of a UNIX socket."""
        return self.address[5:]

    def admits(self, peer: str) -> bool:
        """Whether a TCP peer (an IP address as text) may connect."""
        if not self.allow:
            return True  # only loopback can reach it
        address = ipaddress.ip_address(peer.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self.allow)


_LISTENERS = "where Postfix asks: a list of listeners"


@dataclass(frozen=True)
class Listen:
    """The section `listen`."""

    policy: tuple[Listener, ...] = field(default=(), metadata={"help": f"{_LISTENERS} of policyd"})
    auth: tuple[Listener, ...] = field(default=(), metadata={"help": f"{_LISTENERS} of saslauthd"})
    milter: tuple[Listener, ...] = field(default=(), metadata={"help": f"{_LISTENERS} of the milter"})
    metrics: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "parse": parse_local_address,
            "parse_key": _parse_door,
            "help": "counters for Prometheus, per sidecar (policyd, saslauthd, milter); off without it",
        },
    )

    def __post_init__(self) -> None:
        seen: set[str] = set()
        listeners = [listener.address for listener in (*self.policy, *self.auth, *self.milter)]
        for address in (*listeners, *self.metrics.values()):
            if address in seen and not address.endswith(":0"):
                raise ValueError(f"{address} is listened on twice")
            seen.add(address)
