"""Addresses of listeners as text: how they are written and what is wrong with one.

Knows UNIX paths, IP addresses with ports, modes and networks. Must not open a socket, nor ask DNS.
"""

from __future__ import annotations

import ipaddress

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

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
    if not (text.isascii() and text.isdigit() and set(text) <= set("01234567") and len(text) in (3, 4)):
        raise ValueError(f"{text!r} is no mode; write it in octal, 0660")
    mode = int(text, 8)
    if mode > 0o777:
        raise ValueError(f"{text!r} is no mode for a socket; write 0660")
    if mode & 0o002:
        raise ValueError(f"{text} opens the socket to every local user; use 0660 and group: postfix")
    return mode


def parse_network(text: str) -> IPNetwork:
    """A network in CIDR form, or one address. Raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; write 192.0.2.0/24 or 192.0.2.7") from None


def parse_door(text: str) -> str:
    """The name of a sidecar. Raises ValueError."""
    if text not in DOORS:
        raise ValueError(f"unknown sidecar; allowed: {', '.join(DOORS)}")
    return text


def _parse_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"unix:{path}: the path must be absolute")
    if len(path.encode()) > LONGEST_PATH:
        raise ValueError(
            f"unix:{path} has {len(path.encode())} octets; a socket's path has {LONGEST_PATH} at most"
        )
    return path
