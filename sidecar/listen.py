"""Listeners: where a sidecar is reached, who may, and the sockets behind it.

Knows the section `listen` and how listeners find their sockets, bound here or inherited. Must not know
Twisted, nor any protocol.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from sidecar import inheritance
from sidecar.binding import ListenError, bind_tcp, bind_unix, identity
from sidecar.endpoints import (
    IPNetwork,
    parse_address,
    parse_door,
    parse_local_address,
    parse_mode,
    parse_network,
    split_host_port,
)

__all__ = ["Held", "Listen", "ListenError", "Listener", "bind", "hold", "sockets"]


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
            "parse_key": parse_door,
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


@dataclass(frozen=True)
class Held:
    """An open listening socket. `made` (device, inode) is the socket's file when this process made it."""

    listener: Listener
    socket: socket.socket
    made: tuple[int, int] | None = None
    inherited: bool = False

    def release(self) -> None:
        """Unlink the file if it is still ours, then close; the other way round it might be a successor's."""
        if self.socket.fileno() < 0:
            return  # already; the file may be a successor's by now, even with our old inode
        with contextlib.suppress(OSError):
            if self.made is not None and identity(self.listener.path) == self.made:
                os.unlink(self.listener.path)
        self.socket.close()


def bind(listener: Listener) -> socket.socket:
    """A listening, non-blocking, non-inheritable socket. Raises ListenError.

    A live socket is never taken away from whoever listens there; a dead one is replaced.
    """
    try:
        if listener.is_unix:
            bound = bind_unix(listener.path, listener.mode, listener.group)
        else:
            bound = bind_tcp(*split_host_port(listener.address))
    except OSError as error:
        reason = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise ListenError(f"{listener.address}: {reason}") from None
    bound.setblocking(False)
    return bound


def hold(listener: Listener) -> Held:
    """Bind a listener, and remember whose file the socket is. Raises ListenError."""
    bound = bind(listener)
    return Held(listener, bound, identity(listener.path) if listener.is_unix else None)


def sockets(name: str, listeners: tuple[Listener, ...], environ: MutableMapping[str, str]) -> list[Held]:
    """A socket for each listener: inherited under `name` when there is one at its address, else bound here.

    LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES leave `environ`. Raises ListenError, with nothing left open.
    """
    with contextlib.ExitStack() as undo:
        inherited = inheritance.take(name, environ)
        for socket_ in inherited.values():
            socket_.setblocking(False)
            undo.callback(socket_.close)
        held: list[Held] = []
        pairs = [(listener, inherited.pop(inheritance.key(listener.address), None)) for listener in listeners]
        if inherited:
            known = ", ".join(listener.address for listener in listeners) or "nothing"
            given = ", ".join(inherited)
            raise ListenError(f"inherited socket {given} is no listener; listen.{name} has {known}")
        if not pairs:
            raise ListenError(f"there is nothing to listen on: listen.{name} is empty")
        for listener, found in pairs:
            held.append(Held(listener, found, inherited=True) if found else hold(listener))
            undo.callback(held[-1].release)
        undo.pop_all()
        return held
