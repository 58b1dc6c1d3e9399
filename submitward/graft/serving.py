"""Who holds a port, and who answers on it.

Knows TCP, TLS, UNIX sockets and /proc. Must not know what is planned, and changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import MAIN, MASTER, Reason, Refused
from .running import setting
from .sites import Configuration

_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 in IPv6
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True)
class Door:
    """Where a service listens, as (family, address) with its port. `wrapped`: TLS comes first."""

    key: str
    line: int
    host: str
    port: str
    wrapped: bool

    def places(self, directory: Path) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        """Every address that master would listen on. Raises OSError for a name that nobody knows."""
        names = [self.host] if self.host else setting(directory, "inet_interfaces").replace(",", " ").split()
        protocols = setting(directory, "inet_protocols")
        places: list[tuple[socket.AddressFamily, tuple[str, int]]] = []
        for name in names:
            wanted = {"all": None, "loopback-only": "localhost"}.get(name, name.strip("[]"))
            flags = socket.AI_PASSIVE if wanted is None else 0
            for family, _, _, _, address in socket.getaddrinfo(
                wanted, self.port, type=socket.SOCK_STREAM, flags=flags
            ):
                version = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}.get(family, "")
                if self.host or "all" in protocols or version in protocols:
                    places.append((family, (str(address[0]), int(address[1]))))
        return places


def doors(texts: dict[str, str]) -> dict[str, Door]:
    """The smtpd services that take connections from the network; not those that cannot be followed."""
    found: dict[str, Door] = {}
    with contextlib.suppress(Refused):  # who is taken out may have files that nobody can follow
        configuration = Configuration(texts[MAIN], texts[MASTER])
        for service in configuration.services:
            if service.kind == "inet":
                host, _, port = service.name.rpartition(":")
                wrapped = configuration.says_yes(service, "smtpd_tls_wrappermode") is not None
                found[service.key] = Door(service.key, service.line, host, port, wrapped)
    return found


def in_use(directory: Path, door: Door, pid: int) -> Iterator[Reason]:
    """Why master could not listen there: it would end, and all mail with it. `pid` is the master itself."""
    try:
        places = door.places(directory)
    except OSError as error:
        yield Reason(MASTER, door.line, f"{door.key}: no such address or port ({error.strerror})")
        return
    for family, place in places:
        trouble = _cannot_listen(family, place)
        if not trouble or (trouble != errno.EADDRINUSE and not door.host):
            continue
        held = _listening(family, place)
        others = held - _opened(pid)
        if trouble == errno.EADDRINUSE and held and not others:
            continue  # what it still holds of an entry that is gone, it gives up when it is reloaded
        holders = _holders(others)
        who = f" by {', '.join(holders)}" if holders else ""
        why = f"is in use{who}" if trouble == errno.EADDRINUSE else f"cannot be had ({os.strerror(trouble)})"
        yield Reason(MASTER, door.line, f"{door.key}: port {place[1]} of {place[0]} {why}")
        return


def silence(directory: Path, door: Door, seconds: float) -> str:
    """Why a client that connects is not greeted; ``""`` when it is."""
    why = "it has no address"
    try:
        for _, (address, port) in door.places(directory):
            why = _no_greeting((_LOOPBACK.get(address, address), port), door.wrapped, seconds)
            if not why:
                break  # of all addresses one may be of a protocol that the host has not
    except OSError as error:
        return str(error)
    return why


def _no_greeting(place: tuple[str, int], wrapped: bool, seconds: float) -> str:
    try:
        plain = socket.create_connection(place, timeout=seconds)
        with plain, _secure(plain) if wrapped else contextlib.nullcontext(plain) as client:
            said = client.recv(512)
            with contextlib.suppress(OSError):
                client.sendall(b"QUIT\r\n")
                client.recv(512)
    except OSError as error:
        # Words of TLS are an answer too, such as the one that a certificate is wanted.
        answered = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
        return "" if answered else str(error)
    return "" if said[:3].isdigit() else "it hangs up without a greeting"


def deafness(path: Path, seconds: float) -> str:
    """Why smtpd would not be greeted by the auth server at a socket; ``""`` when it would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        try:
            client.connect(str(path))
            said = client.recv(512)
        except OSError as error:
            return str(error.strerror or error)
    return "" if said.startswith(b"VERSION") else "it hangs up without a greeting"


def _secure(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # whether it answers is asked, not who it is
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _cannot_listen(family: socket.AddressFamily, place: tuple[str, int]) -> int:
    """The error that master would meet, 0 for none."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            attempt.bind(place)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _listening(family: socket.AddressFamily, place: tuple[str, int]) -> set[str]:
    """The sockets that listen where master could not listen beside them."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                columns = line.split()
                address, _, port = columns[1].partition(":")
                if columns[3] == "0A" and int(port, 16) == place[1] and _collide(family, place[0], address):
                    found.add(f"socket:[{columns[9]}]")
    return found


def _holders(sockets: set[str]) -> list[str]:
    """The processes that have one of these open, by name and id."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc") if sockets else ()):
        if sockets & _opened(int(process)):
            with contextlib.suppress(OSError):
                name = Path(f"/proc/{process}/comm").read_text().strip()
                found.append(f"{name} (pid {process})")
    return found


def _opened(pid: int) -> set[str]:
    """What a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def _collide(family: socket.AddressFamily, wanted: str, held: str) -> bool:
    """Whether an address of /proc/net (its words in the order of the host) stands in the way of ours."""
    packed = b"".join(struct.pack("=I", int(held[at : at + 8], 16)) for at in range(0, len(held), 8))
    if packed.startswith(_MAPPED):
        packed = packed[len(_MAPPED) :]
    ours = socket.inet_pton(family, wanted.partition("%")[0])
    everywhere = not any(packed)
    if len(packed) != len(ours):  # of two protocols; :: may mean both, unless it is ours
        return everywhere and family == socket.AF_INET
    return everywhere or not any(ours) or packed == ours
